"""Where Q/DQ pairs go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from quantize_nets import RESIDUAL, WEIGHTS, layers_of, network, prepare, weight

from segedge.errors import UsageError
from segedge.precision.int8.place import Placement, place


def placed(body: str, weights: dict[str, Any], **options: Any) -> Placement:
    kept = options.pop("kept", ())
    graph = prepare(network(body, weights))
    return place(graph, layers_of(graph, **options), kept=kept)


def test_the_residual_network_in_full() -> None:
    found = placed(RESIDUAL, WEIGHTS)
    assert found.int8 == {"c1", "d", "p", "sum", "e", "cat", "o"}
    assert {frozenset(group) for group in found.groups} == {
        frozenset({"image"}),
        frozenset({"rd"}),
        frozenset({"r1", "p", "rs", "e", "cat"}),  # the sum and the Concat, and what they join
    }
    # Behind a ReLU, not before it; what only the float classifier reads stays float.
    assert not {"c1", "d", "sum", "o", "ro"} & set(found.values)
    assert "image" not in found.made
    assert {"r1", "rd", "p", "rs"} <= found.made


def test_the_classifier_may_be_quantized() -> None:
    found = placed(RESIDUAL, WEIGHTS, classifier=True)
    assert "logits" in found.int8
    assert "ro" in found.values
    assert "logits" not in found.values


def test_a_sum_with_a_float_side_stays_float() -> None:
    found = placed(RESIDUAL, WEIGHTS, kept=("p",))
    assert "sum" not in found.int8
    assert "p" not in found.int8
    assert "p" not in found.values
    assert "rs" in found.values  # read by int8 layers all the same


def test_a_pattern_keeps_layers() -> None:
    graph = prepare(network(RESIDUAL, WEIGHTS))
    reasons = {layer.name: layer.reason for layer in layers_of(graph, keep=("[de]",))}
    assert reasons["d"] == reasons["e"] == "asked for: [de]"
    assert reasons["c1"] == ""
    assert "classifier" in reasons["logits"]


def test_a_pattern_that_fits_nothing_names_the_nearest() -> None:
    graph = prepare(network(RESIDUAL, WEIGHTS))
    with pytest.raises(
        UsageError, match="no layer fits the pattern 'logit'; did you mean 'logits'"
    ):
        layers_of(graph, keep=("logit",))


def test_multiplications_are_counted() -> None:
    graph = prepare(network(RESIDUAL, WEIGHTS))
    macs = {layer.name: layer.macs for layer in layers_of(graph)}
    assert macs["c1"] == 24 * 32 * 8 * 3 * 9
    assert macs["d"] == 24 * 32 * 8 * 9
    assert macs["logits"] == 24 * 32 * 3 * 8


def test_a_transposed_layer_has_its_channels_on_axis_one() -> None:
    body = """
        a = Conv (image, w)
        u = ConvTranspose <kernel_shape = [2, 2], strides = [2, 2]> (a, t)
        logits = Conv (u, v)
    """
    weights = {"w": weight(4, 3), "t": weight(4, 6, 2), "v": weight(3, 6)}
    graph = prepare(network(body, weights))
    layer = {found.name: found for found in layers_of(graph)}["u"]
    assert layer.weight_axis == 1
    assert layer.macs == 24 * 32 * 4 * 6 * 4
    assert "u" in place(graph, layers_of(graph)).int8


def test_a_grouped_transposed_layer_stays_float() -> None:
    body = """
        u = ConvTranspose <kernel_shape = [2, 2], strides = [2, 2], group = 3> (image, t)
        logits = Conv (u, v)
    """
    graph = prepare(network(body, {"t": weight(3, 1, 2), "v": weight(3, 3)}))
    assert "grouped" in layers_of(graph)[0].reason


@pytest.mark.parametrize(
    "middle",
    [
        "m = Sigmoid (a)",
        'm = Resize <mode = "linear"> (a, , scales)',
        "m = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)",
        "m = Softmax <axis = 1> (a)",
    ],
)
def test_other_operators_compute_in_float(middle: str) -> None:
    body = f"a = Conv (image, w) {middle} b = Conv (m, v) logits = Conv (b, x)"
    weights = {
        "w": weight(4, 3), "v": weight(4, 4), "x": weight(3, 4),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }  # fmt: skip
    found = placed(body, weights)
    assert found.int8 == {"a", "b"}
    assert set(found.values) == {"image", "m"}
    assert not found.made


def test_max_pooling_shares_its_scale() -> None:
    body = """
        a = Conv (image, w)
        m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)
        b = Conv (m, v)
        logits = Conv (b, x)
    """
    found = placed(body, {"w": weight(4, 3), "v": weight(4, 4), "x": weight(3, 4)})
    assert ("a", "m") in found.groups
    assert "m" in found.int8


def test_a_broadcast_sum_is_no_residual_one() -> None:
    body = """
        a = Conv (image, w)
        g = GlobalAveragePool (a)
        k = Conv (g, v)
        s = Add (a, k)
        b = Conv (s, x)
        logits = Conv (b, y)
    """
    weights = {"w": weight(4, 3), "v": weight(4, 4), "x": weight(4, 4), "y": weight(3, 4)}
    assert "s" not in placed(body, weights).int8


def test_a_clip_belongs_to_its_layer() -> None:
    body = "a = Conv (image, w) m = Clip (a, low, high) b = Conv (m, v) logits = Conv (b, x)"
    weights = {
        "w": weight(4, 3), "v": weight(4, 4), "x": weight(3, 4),
        "low": np.float32(0), "high": np.float32(6),
    }  # fmt: skip
    found = placed(body, weights)
    assert "a" not in found.values
    assert "m" in found.made
