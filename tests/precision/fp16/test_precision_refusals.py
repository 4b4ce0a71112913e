"""Networks, images and names that cannot be meant: each is refused with what mends it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from precision_helpers import CONV, convert, graph_of, keep_fp32, network, to_fp16, value

from segedge.errors import ModelError, UsageError
from segedge.precision.fp16.fp16 import check_fp16


def test_a_network_in_fp16_already_is_refused() -> None:
    half, _ = convert("a = Conv(image, w) logits = Conv(a, v)")
    with pytest.raises(ModelError, match="fp16 already"):
        to_fp16(half)


def test_a_network_that_gives_nan_in_fp32_is_refused() -> None:
    weight = CONV["v"].copy()
    weight[0, 0] = np.nan
    with pytest.raises(ModelError, match="in fp32 already") as caught:
        convert("a = Conv(image, w) b = Conv(a, v) logits = Relu(b)", {"v": weight})
    assert "b (Conv)" in str(caught.value)


def test_a_custom_operator_of_unknown_type_is_refused() -> None:
    model = network("a = Conv(image, w) logits = Conv(a, v)", CONV)
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.node.insert(0, helper.make_node("Magic", ["image"], ["m"], "magic", domain="acme"))
    with pytest.raises(ModelError, match="'m' cannot be inferred") as caught:
        to_fp16(model)
    assert "acme::Magic" in str(caught.value)


def test_an_invalid_graph_is_refused() -> None:
    with pytest.raises(ModelError, match="not valid ONNX"):
        to_fp16(network("logits = Conv(image, missing)"))


@pytest.mark.parametrize("shape", [(1, 1, 8, 16), (8, 16), (1, 3, 9, 16)])
def test_images_of_another_shape_are_refused_with_both_shapes(shape: Any) -> None:
    model = network("a = Conv(image, w) logits = Conv(a, v)", CONV)
    with pytest.raises(ModelError, match="does not run on this input") as caught:
        to_fp16(model, images=[np.zeros(shape, np.float32)])
    assert "x".join(map(str, shape)) in str(caught.value)
    assert "[1, 3, 8, 16]" in str(caught.value)


def test_several_inputs_are_refused() -> None:
    model = network("a = Conv(image, w) b = Add(a, other) logits = Conv(b, v)", CONV)
    model.graph.input.append(value("other", [1, 4, 8, 16]))
    with pytest.raises(ModelError, match="one input") as caught:
        to_fp16(model)
    assert "image, other" in str(caught.value)


def test_an_unknown_layer_cannot_go_back_to_fp32() -> None:
    half, _ = convert("stem = Conv(image, w) logits = Conv(stem, v)")
    with pytest.raises(UsageError, match="did you mean 'stem'"):
        keep_fp32(half, ["stemm"])


def test_noise_is_reported_as_noise() -> None:
    model = network("a = Conv(image, w) logits = Conv(a, v)", CONV)
    half, report = to_fp16(model)
    assert report.check.parity.kind == "noise"
    assert "noise" in report.lines()[1]
    assert check_fp16(graph_of(model), graph_of(half)).parity == report.check.parity
