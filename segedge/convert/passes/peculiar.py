"""Operators that not every backend computes, or computes as ONNX defines them, in words.

Found by `benchmarks/operators.py` with OpenVINO 2026.4 and TensorRT for RTX 1.7; what other
versions do is told by the file's proof where it is opened.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segedge.graph.kit import Model, Node, attribute, constant, opset_of, shape_of

_COORDINATES = "coordinate_transformation_mode"
_NEITHER, _NO_TENSORRT = (
    f"{who} no such operator" for who in ("OpenVINO and TensorRT have", "TensorRT has")
)


def peculiarities(model: Model) -> tuple[str, ...]:
    """Of a graph: which operator, and who computes it otherwise or not at all; each once."""
    old = opset_of(model) < 13
    found = [text for node in model.graph for text in _of(node, old=old)]
    return tuple(dict.fromkeys(found))


def _of(node: Node, *, old: bool) -> list[str]:
    said = [
        f"{node.op_type}{what}: {who}"
        for operators, what, who, is_so in _RULES
        if node.op_type in operators and is_so(node)
    ]
    if old and node.op_type in ("Softmax", "Hardmax") and not _is_last_axis(node):
        said.append(f"{node.op_type} before opset 13 over several axes: OpenVINO takes one of them")
    return said


def _is(name: str, *values: object, default: object = None) -> Callable[[Node], bool]:
    """Whether an attribute has one of these values."""
    return lambda node: bool(attribute(node, name, default) in values)


def _is_last_axis(node: Node) -> bool:
    shape = shape_of(node.inputs[0])
    axis = attribute(node, "axis", 1)
    return bool(axis == -1 or (shape is not None and axis == len(shape) - 1))


def _is_dilated(node: Node) -> bool:
    return bool(max(attribute(node, "dilations", (1,))) > 1)


def _leaves_out(node: Node) -> bool:
    """A cubic Resize that does not count what lies outside; linear ones come out the same."""
    return attribute(node, "mode", "nearest") == "cubic" and bool(
        attribute(node, "exclude_outside", 0)
    )


def _is_cubic_elsewhere(node: Node) -> bool:
    """A cubic Resize of other axes than the last two."""
    before, after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    if attribute(node, "mode", "nearest") != "cubic" or before is None or after is None:
        return False
    return len(before) == len(after) > 2 and before[:-2] != after[:-2]


def _is_uneven(node: Node) -> bool:
    """An Upsample by what is no whole number."""
    scales = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return scales is not None and bool(np.any(scales != np.round(scales)))


def _has_zero_point(node: Node) -> bool:
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return zero is not None and bool(np.any(zero != 0))


def _counts_overhang(node: Node) -> bool:
    return bool(attribute(node, "ceil_mode", 0) and attribute(node, "count_include_pad", 0))


def _has_places(node: Node) -> bool:
    return len(node.outputs) > 1 and bool(node.outputs[1].uses() or node.outputs[1].name)


_RULES: tuple[tuple[tuple[str, ...], str, str, Callable[[Node], bool]], ...] = (
    (("Resize",), " with antialias", "OpenVINO leaves that out, TensorRT refuses it",
     _is("antialias", 1)),
    (("Resize",), " with exclude_outside", "OpenVINO counts what lies outside", _leaves_out),
    (("Resize",), " that keeps the aspect ratio", "OpenVINO stretches, TensorRT refuses it",
     _is("keep_aspect_ratio_policy", "not_larger", "not_smaller")),
    (("Resize",), " with symmetric half pixels", "OpenVINO and TensorRT refuse it",
     _is(_COORDINATES, "half_pixel_symmetric")),
    (("Resize",), " with a crop", "OpenVINO and TensorRT refuse it",
     _is(_COORDINATES, "tf_crop_and_resize")),
    (("Resize",), ", cubic, of other axes than the last two",
     "OpenVINO computes it wrongly, TensorRT refuses it", _is_cubic_elsewhere),
    (("Upsample",), " by what is no whole number", "OpenVINO takes other pixels", _is_uneven),
    (("AveragePool",), " with ceil_mode and count_include_pad", "OpenVINO counts otherwise",
     _counts_overhang),
    (("AveragePool",), " with ceil_mode", "TensorRT refuses some", _is("ceil_mode", 1)),
    (("MaxPool",), " with ceil_mode", "OpenVINO may add a window", _is("ceil_mode", 1)),
    (("LpPool",), " with ceil_mode", "OpenVINO computes it otherwise", _is("ceil_mode", 1)),
    (("AveragePool", "MaxPool"), " with dilations", "TensorRT refuses it", _is_dilated),
    (("MaxPool",), " with places", "TensorRT refuses it", _has_places),
    (("Pad",), " that wraps around", "OpenVINO refuses it", _is("mode", "wrap")),
    (("ScatterND", "ScatterElements"), " with a reduction", "TensorRT refuses it",
     _is("reduction", "add", "mul", "max", "min")),
    (("RoiAlign",), " of maxima", "OpenVINO and ONNX Runtime differ", _is("mode", "max")),
    (("QuantizeLinear", "DequantizeLinear"), " with zero points", "TensorRT refuses it",
     _has_zero_point),
    (("DeformConv", "MaxUnpool"), "", _NEITHER, lambda node: True),
    (("RoiAlign", "Col2Im", "CenterCropPad", "Compress", "AffineGrid"), "", _NO_TENSORRT,
     lambda node: True),
)  # fmt: skip
"""Operators, which of them, who computes them otherwise and how, and whether a node is one."""
