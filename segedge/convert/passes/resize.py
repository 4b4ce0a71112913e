"""Which ONNX Resize is exactly the upsampling that the tail does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segedge.graph.kit import Node, attribute, constant

_LINEAR_MODES = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}
"""Coordinate modes that are half-pixel or align_corners, to whether it is the latter. The two
half-pixel ones differ only for an output of one pixel."""


@dataclass(frozen=True)
class LinearUpsample:
    """A Resize that the tail can do instead."""

    align_corners: bool
    """How the grid lies on the output."""
    class_axis: int
    """1 where rows and columns are axes 2 and 3 (NCHW), 3 where they are 1 and 2 (NHWC)."""
    factor: float
    """Output pixels per input pixel, on the longer side."""

    def __str__(self) -> str:
        corners = ", align_corners" if self.align_corners else ""
        return f"Resize x{self.factor:g} bilinear{corners}"


def linear_upsample(
    node: Node, *, source: Sequence[int], result: Sequence[int], network: tuple[int, int]
) -> LinearUpsample | str:
    """Which plain bilinear upsample to the network's input size a Resize is, or why it is none.

    ``source`` and ``result`` are the real shapes of its input and output.
    """
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if node.op_type != "Resize" or len(node.inputs) < 3:
        return "an Upsample or Resize from before opset 11"
    if attribute(node, "mode", "nearest") != "linear":
        return f"its Resize is {attribute(node, 'mode', 'nearest')}, not linear"
    if mode not in _LINEAR_MODES:
        return f"its Resize has {mode} coordinates"
    if attribute(node, "antialias", 0) or attribute(node, "exclude_outside", 0):
        return "its Resize is antialiased"
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return "its Resize keeps the aspect ratio"
    if len(source) != 4 or len(result) != 4 or source[0] != result[0]:
        return "its Resize is not over two axes"
    class_axis = next((a for a in (1, 3) if _is_plane(source, result, a, network)), None)
    if class_axis is None:
        size = "x".join(map(str, result[2:]))
        return f"its Resize ends at {size}, not at the input's {network[0]}x{network[1]}"
    align_corners = _LINEAR_MODES[mode]
    if not align_corners and not _scales_exact(node, source, result):
        return "its Resize has a scale that is not output size / input size"
    rows, columns = (2, 3) if class_axis == 1 else (1, 2)
    factor = max(result[rows] / source[rows], result[columns] / source[columns])
    if factor <= 1:
        return "its Resize does not enlarge"
    return LinearUpsample(align_corners, class_axis, factor)


def _is_plane(
    source: Sequence[int], result: Sequence[int], class_axis: int, network: tuple[int, int]
) -> bool:
    """Whether the channels stay and the other two axes become the network's size."""
    plane = result[2:4] if class_axis == 1 else result[1:3]
    return source[class_axis] == result[class_axis] and tuple(plane) == network


def _scales_exact(node: Node, source: Sequence[int], result: Sequence[int]) -> bool:
    """Half-pixel coordinates use the scale as given, which rounding of the size can belie."""
    scales = constant(node.inputs[2])
    if scales is None or scales.size == 0:
        return True  # sizes were given: the scale is their ratio
    axes = attribute(node, "axes", None) or range(len(source))
    return all(
        abs(float(scale) * source[axis] - result[axis]) < 1e-3
        for axis, scale in zip(axes, scales, strict=True)
    )
