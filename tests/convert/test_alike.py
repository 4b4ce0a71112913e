"""What backends compute otherwise is rewritten, exactly, or named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from segedge.convert.passes.alike import ALIKE
from segedge.convert.passes.peculiar import peculiarities
from segedge.convert.passes.separable import Sliding
from segedge.errors import SegedgeError
from segedge.graph.kit import infer_shapes, to_bytes
from segedge.machine.onnx_session import Session

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import operators
from sweep.case import Case, one

sys.path.pop(0)

ROUNDED = ("Cast float16 and back", "Cast bfloat16 and back")
"""OpenVINO leaves two casts in a row out: nothing that the values' own precision sees."""
EVERY, EVERY_PECULIAR = 41, 9
"""Of the cases that nobody computes otherwise, and of the others, one in so many is looked at."""


def rewritten(case: Case) -> tuple[Any, bool]:
    model = ir.from_proto(onnx.load_from_string(case.model()))
    infer_shapes(model)
    return model, ALIKE(model).changed


def in_question() -> Iterator[Any]:
    """Cases that a rewrite or a rule is for, each rule's first among them, and a few others."""
    seen: set[str] = set()
    for number, case in enumerate(operators.all_cases()):
        model = ir.from_proto(onnx.load_from_string(case.model()))
        infer_shapes(model)
        rules = set(peculiarities(model))
        if rules - seen or number % (EVERY_PECULIAR if rules else EVERY) == 0:
            seen |= rules
            yield pytest.param(case, id=case.name)


@pytest.mark.parametrize("case", in_question())
def test_each_operator_is_computed_alike_or_named(case: Case, tmp_path: Path) -> None:
    """The sweep in short: export's rewrites, then every backend beside the truth."""
    try:
        wanted = operators.truth(case)
    except SegedgeError:
        pytest.skip("ONNX Runtime refuses it")
    model, changed = rewritten(case)
    (tmp_path / "m.onnx").write_bytes(to_bytes(model))
    named = peculiarities(model)
    ways = {"plain": Session(to_bytes(model), optimise=False)(case.image())}
    ways["onnxruntime"] = operators.optimised(case, tmp_path / "m.onnx")
    if case.torch is not None:
        ways["torch"] = operators.torch(case, tmp_path)
    try:
        ways["openvino"] = operators.openvino(case, tmp_path / "m.onnx")
    except SegedgeError:
        assert named, "OpenVINO refuses it, and nothing says so"
    for name, found in ways.items():
        verdict, detail = operators.difference(wanted, found)
        if name == "openvino" and (named or case.name in ROUNDED):
            continue
        if name == "torch" and "x0.6, nearest_mode floor" in case.name:
            continue  # positions that fall on the border of two pixels
        assert verdict == "same", f"{name}, {'rewritten' if changed else 'as it was'}: {detail}"


def test_tensorrt_takes_what_is_not_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    taken = 0
    for case in operators.all_cases()[::60]:
        model, _ = rewritten(case)
        if not peculiarities(model):
            (tmp_path / "m.onnx").write_bytes(to_bytes(model))
            operators.parsed(case, tmp_path / "m.onnx")  # raises where it is refused
            taken += 1
    assert taken > 2


AGREED = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")


@pytest.mark.parametrize("shape", [(1, 3, 12, 18), (2, 4, 13, 17)])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", AGREED)
def test_an_antialiased_resize_is_rewritten(
    mode: str, coordinates: str, shape: tuple[int, ...]
) -> None:
    for result in ((6, 9), (7, 11), (4, 18)):
        sizes = np.array([*shape[:2], *result], np.int64)
        attributes = {
            "mode": mode, "coordinate_transformation_mode": coordinates, "antialias": 1,
            "exclude_outside": 1,
        }  # fmt: skip
        case = one("Resize", attributes, None, None, sizes, shape=shape)
        model, changed = rewritten(case)
        assert changed
        assert "Resize" not in {node.op_type for node in model.graph}
        found = Session(to_bytes(model))(case.image())
        np.testing.assert_allclose(found, operators.truth(case), atol=1e-5)


def test_a_whole_ratio_becomes_a_depthwise_convolution() -> None:
    scales = np.array([1, 1, 0.5, 0.5], np.float32)
    case = one("Resize", {"mode": "linear", "antialias": 1, "exclude_outside": 1}, None, scales,
               shape=(1, 3, 16, 24))  # fmt: skip
    model, _ = rewritten(case)
    assert [node.op_type for node in model.graph] == ["Conv", "Mul"]
    (taps,) = (v for k, v in model.graph.initializers.items() if k.endswith("taps"))
    np.testing.assert_allclose(
        taps.const_value.numpy()[0, 0], np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    )


def test_enlarging_needs_no_antialias() -> None:
    """And a plain Resize is one that the tail may take."""
    scales = np.array([1, 1, 2, 2], np.float32)
    case = one("Resize", {"mode": "linear", "antialias": 1}, None, scales)
    model, changed = rewritten(case)
    assert changed
    (node,) = model.graph
    assert node.op_type == "Resize"
    assert "antialias" not in node.attributes
    np.testing.assert_allclose(
        Session(to_bytes(model))(case.image()), operators.truth(case), atol=1e-6
    )


def test_what_would_cost_too_much_is_left() -> None:
    sizes = np.array([1, 64, 300, 500], np.int64)
    attributes = {"mode": "linear", "antialias": 1, "exclude_outside": 1}
    model, changed = rewritten(
        one("Resize", attributes, None, None, sizes, shape=(1, 64, 512, 1024))
    )
    assert not changed
    assert peculiarities(model)


def test_rows_that_are_no_shifted_row_are_no_convolution() -> None:
    rng = np.random.default_rng(0)
    assert Sliding.of(rng.random((4, 8))) is None
    assert Sliding.of(rng.random((3, 8))) is None


def test_an_open_size_is_left_and_named() -> None:
    case = one("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4,
                               "ceil_mode": 1, "count_include_pad": 1})  # fmt: skip
    model = ir.from_proto(onnx.load_from_string(case.model()))
    for value in (model.graph.inputs[0], model.graph.outputs[0]):
        value.shape = ir.Shape([1, 4, "h", "w"])
    report = ALIKE(model)
    assert not report.changed
    assert report.detail == "no operator that backends compute otherwise"
    assert peculiarities(model)[0] == (
        "AveragePool with ceil_mode and count_include_pad: OpenVINO counts otherwise"
    )
