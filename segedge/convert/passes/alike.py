"""What backends compute otherwise, written in operators that all of them compute alike.

Found by `benchmarks/operators.py`; docs/backends.md has the table. Rewritten is what is of a fixed
size and can be said exactly: an antialiased Resize (or a cubic one that leaves out what lies
outside, or one with symmetric half pixels) becomes a depthwise convolution where its ratio is a
whole number, else two small matrix products; a pool with ``ceil_mode`` gets its last window by
explicit pads, and exact counts where padding counts. Each rewritten Resize is compared with ONNX
Runtime's on random numbers first, and is left as it is where they differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.convert.passes.base import Pass
from segedge.convert.passes.resample import resize_matrix
from segedge.convert.passes.separable import (
    Matrix,
    Sliding,
    products_macs,
    replace_by_convolution,
    replace_by_products,
    scaled,
)
from segedge.errors import ModelError
from segedge.graph.kit import (
    FLOAT,
    Model,
    Node,
    attribute,
    constant,
    drop_dead,
    initializer,
    ir,
    new_model,
    new_node,
    opset_of,
    session_of,
    shape_of,
)

_MOST_MACS = 1 << 30
"""Of matrix products for one Resize: what costs more is left to the backends that have it."""
_EXACT = 1e-5
"""Largest difference between a rewritten Resize and ONNX Runtime's, for numbers about one."""


def _effect(model: Model) -> str:
    done = []
    for node in list(model.graph):
        rewrite = _REWRITES.get(node.op_type)
        said = rewrite(model, node) if rewrite is not None else ""
        if said:
            done.append(said)
    drop_dead(model)
    return ", ".join(done)


ALIKE = Pass("compute alike", _effect, idle="no operator that backends compute otherwise")


@dataclass(frozen=True)
class _Plane:
    """An operator from one N x C x H x W value to another, of known sizes but for the batch."""

    channels: int
    source: tuple[int, int]
    result: tuple[int, int]

    @classmethod
    def of(cls, node: Node) -> _Plane | None:
        before, after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
        if before is None or after is None or len(before) != 4 or len(after) != 4:
            return None
        if None in before[1:] or None in after[1:] or before[:2] != after[:2]:
            return None
        _, channels, *source = (int(axis or 1) for axis in before)
        _, _, *result = (int(axis or 1) for axis in after)
        return cls(channels, (source[0], source[1]), (result[0], result[1]))


# --------------------------------------------------------------------------------------- Resize


def _rewrite_resize(model: Model, node: Node) -> str:
    """An antialiased Resize or the like, said otherwise; empty where it need not or cannot be."""
    plane, mode = _Plane.of(node), attribute(node, "mode", "nearest")
    if plane is None or mode not in ("linear", "cubic") or not _is_peculiar(node, mode):
        return ""
    scales = _scales(node, plane)
    if scales is None or attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return ""
    if _only_enlarges(node, mode, scales):
        node.attributes.pop("antialias")
        node.attributes.pop("exclude_outside", None)
        return "Resize without antialias, which enlarging does not need"
    try:
        rows, columns = (
            _axis_matrix(node, *axis)
            for axis in zip(plane.source, plane.result, scales, strict=True)
        )
    except KeyError:
        return ""
    if not _agrees(node, plane, rows, columns, opset_of(model)):
        return ""
    source, sliding = node.inputs[0], (Sliding.of(rows), Sliding.of(columns))
    what = f"{'antialiased' if attribute(node, 'antialias', 0) else mode} Resize"
    if sliding[0] is not None and sliding[1] is not None:
        replace_by_convolution(model, source, node, rows=sliding[0], columns=sliding[1])
        return f"{what} as a depthwise convolution"
    if products_macs(plane.channels, rows, columns) > _MOST_MACS:
        return ""
    replace_by_products(model, source, node, rows=rows, columns=columns)
    return f"{what} as two matrix products"


def _is_peculiar(node: Node, mode: str) -> bool:
    return bool(
        attribute(node, "antialias", 0)
        or (mode == "cubic" and attribute(node, "exclude_outside", 0))
        or attribute(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric"
    )


def _only_enlarges(node: Node, mode: str, scales: tuple[float, float]) -> bool:
    """A linear one reads two pixels then, and one at the border: antialiased or not."""
    coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
    return mode == "linear" and min(scales) >= 1.0 and coordinates != "half_pixel_symmetric"


def _scales(node: Node, plane: _Plane) -> tuple[float, float] | None:
    """Of rows and columns; None where it resizes other axes, too, or by what is not constant."""
    sizes = tuple(r / s for r, s in zip(plane.result, plane.source, strict=True))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        given = constant(node.inputs[2])
        if given is None:
            return None
        if given.size:
            axes = [axis % 4 for axis in attribute(node, "axes", None) or range(4)]
            named = dict(zip(axes, map(float, given), strict=True))
            return named.get(2, 1.0), named.get(3, 1.0)
    return sizes[0], sizes[1]


def _axis_matrix(node: Node, length: int, result: int, scale: float) -> Matrix:
    if length == result and scale == 1.0:
        return np.eye(length)
    return resize_matrix(
        length,
        result,
        scale,
        mode=attribute(node, "mode", "nearest"),
        coordinates=attribute(node, "coordinate_transformation_mode", "half_pixel"),
        antialias=bool(attribute(node, "antialias", 0)),
        exclude_outside=bool(attribute(node, "exclude_outside", 0)),
        cubic_a=attribute(node, "cubic_coeff_a", -0.75),
    )


def _agrees(node: Node, plane: _Plane, rows: Matrix, columns: Matrix, opset: int) -> bool:
    """Whether ONNX Runtime's Resize of random numbers is the same."""
    probe = np.random.default_rng(7).standard_normal((1, 1, *plane.source)).astype(np.float32)
    try:
        found = session_of(_alone(node, plane, opset), optimise=False)(probe)
    except ModelError:
        return False
    wanted = rows @ probe @ columns.T
    return found.shape == wanted.shape and np.allclose(found, wanted, rtol=0, atol=_EXACT)


def _alone(node: Node, plane: _Plane, opset: int) -> Model:
    """The node as a network of its own, with one channel."""
    probe, dtype = ir().val("probe", ir().DataType.FLOAT, [1, 1, *plane.source]), FLOAT
    model = new_model([probe], opset)
    given = [constant(value) for value in node.inputs[1:]]
    inputs = [
        None if array is None else initializer(model, f"c{index}", _one_channel(array, index))
        for index, array in enumerate(given, start=1)
    ]
    same = new_node(
        node.op_type, [probe, *inputs], "found", dtype=dtype, shape=[1, 1, *plane.result],
        **node.attributes,
    )  # fmt: skip
    model.graph.append(same)
    model.graph.outputs.extend(same.outputs)
    return model


def _one_channel(array: NDArray[Any], index: int) -> NDArray[Any]:
    """Sizes of four axes name batch and channels, too."""
    if index != 3 or array.size != 4:
        return array
    return np.concatenate([np.ones(2, array.dtype), array[2:]])


# ---------------------------------------------------------------------------------------- pools


def _rewrite_pool(model: Model, node: Node) -> str:
    """A pool with ``ceil_mode``: its last window by explicit pads."""
    plane = _Plane.of(node)
    kernel = attribute(node, "kernel_shape", ())
    automatic = attribute(node, "auto_pad", "NOTSET") != "NOTSET"
    if not attribute(node, "ceil_mode", 0) or plane is None or len(kernel) != 2 or automatic:
        return ""
    axes = [_PoolAxis.of(node, plane, index) for index in (0, 1)]
    if any(axis.end >= axis.kernel for axis in axes):  # ONNX Runtime pads by less than a kernel
        return ""
    node.attributes["ceil_mode"] = ir().AttrInt64("ceil_mode", 0)
    pads = [*(axis.begin for axis in axes), *(axis.end for axis in axes)]
    node.attributes["pads"] = ir().AttrInt64s("pads", pads)
    if node.op_type == "AveragePool" and attribute(node, "count_include_pad", 0):
        _count_exactly(model, node, np.outer(axes[0].gain, axes[1].gain))
    return f"{node.op_type} without ceil_mode"


@dataclass(frozen=True)
class _PoolAxis:
    """How windows lie on an axis."""

    kernel: int
    begin: int
    end: int
    """Explicit pads, with what the last window needs beyond the node's own."""
    gain: Matrix
    """All of a window's places over those that count: what lies beyond the node's pads does not."""

    @classmethod
    def of(cls, node: Node, plane: _Plane, index: int) -> _PoolAxis:
        kernel, pads = attribute(node, "kernel_shape", ())[index], attribute(node, "pads", (0,) * 4)
        stride = attribute(node, "strides", (1, 1))[index]
        dilation = attribute(node, "dilations", (1, 1))[index]
        begin, end = int(pads[index]), int(pads[index + 2])
        length, reach = plane.source[index], (kernel - 1) * dilation + 1
        results = -(-(length + begin + end - reach) // stride) + 1
        if (results - 1) * stride >= length + begin:  # it would begin behind the last pixel
            results -= 1
        needed = (results - 1) * stride + reach - length - begin
        places = np.arange(results)[:, None] * stride + np.arange(kernel) * dilation
        counted = np.count_nonzero(places < begin + length + end, axis=1)
        return cls(kernel, begin, max(end, needed), kernel / np.maximum(counted, 1))


def _count_exactly(model: Model, node: Node, gain: Matrix) -> None:
    """A window's sum was divided by all its places: mend it where some do not count."""
    if np.all(gain == 1.0):
        return
    same = ir().node("AveragePool", inputs=list(node.inputs), attributes=dict(node.attributes))
    scaled(model, node, same, gain)


_REWRITES: dict[str, Callable[[Model, Node], str]] = {
    "Resize": _rewrite_resize,
    "AveragePool": _rewrite_pool,
    "MaxPool": _rewrite_pool,
}
