"""The resize rules: which input pixels an output pixel is made of, along one axis.

The one place of a rule for the reference and the CPU; the CUDA kernels, which compute weights on
the fly, take `half_width` from here and name what they know of a rule in `segedge.cuda.preprocess`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ResizeRule
from segedge.card.geometry import AxisMap

UP_AT_BORDERS = 1e-6
"""Added to centres for a nearest lookup: one on a border between two pixels goes up, whatever the
rounding of the map."""
Weighed = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Input index (possibly outside the image) and weight, output pixels x taps."""


def axis_taps(rule: ResizeRule, axis: AxisMap, outputs: range, length: int) -> Weighed:
    """What each output pixel of an axis reads; ``axis`` gives the input's index from its own.

    - ``bilinear``: the two pixels around the position, whatever the scale
      (``cv2.INTER_LINEAR``, ``F.interpolate(antialias=False)``).
    - ``antialias``: a triangle as wide as the scale, cut at the border and normalised
      (Pillow's ``BILINEAR``, ``F.interpolate(antialias=True)``).
    - ``nearest``: the pixel that holds the centre, floor((output + 0.5) * scale); a centre on the
      border of two takes the upper. Pillow's ``NEAREST`` and torch's ``nearest-exact`` do this,
      and it agrees with the half-pixel maps used everywhere here; ``cv2.INTER_NEAREST`` and
      torch's ``nearest`` floor(output * scale) look half an output pixel up and left of it.
    - ``area``: the mean over the output pixel's box, fractions included (``cv2.INTER_AREA``), on
      an axis that shrinks; on one that grows, bilinear.
    """
    position = axis.scale * np.arange(outputs.start, outputs.stop, dtype=np.float64) + axis.offset
    return _RULES[rule](position, axis.scale, length)


def axis_matrix(
    rule: ResizeRule, axis: AxisMap, outputs: range, length: int
) -> NDArray[np.float64]:
    """Resampling of one axis as a matrix, output pixels x input pixels; rows sum to one."""
    index, weights = axis_taps(rule, axis, outputs, length)
    matrix = np.zeros((len(outputs), length))
    np.add.at(matrix, (np.arange(len(outputs))[:, None], np.clip(index, 0, length - 1)), weights)
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def is_box(rule: ResizeRule, scale: float) -> bool:
    """Whether an axis takes means over boxes."""
    return rule == "area" and scale > 1.0


def half_width(rule: ResizeRule, scale: float) -> float:
    """How far a wide filter reaches from the centre, in input pixels."""
    return scale / 2 if is_box(rule, scale) else max(scale, 1.0)


def _bilinear(position: NDArray[np.float64], scale: float, length: int) -> Weighed:
    inside = np.clip(position, 0.0, length - 1.0)
    low = np.floor(inside).astype(np.int64)
    share = inside - low
    return np.stack([low, low + 1], 1), np.stack([1.0 - share, share], 1)


def _nearest(position: NDArray[np.float64], scale: float, length: int) -> Weighed:
    index = np.floor(position + 0.5 + UP_AT_BORDERS).astype(np.int64)[:, None]
    return index, np.ones((position.size, 1))


def _triangle(position: NDArray[np.float64], scale: float, length: int) -> Weighed:
    # Pillow's precompute_coeffs with the bilinear filter, which torch's antialias=True follows.
    reach = half_width("antialias", scale)
    centre = position + 0.5
    low = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + reach + 0.5).astype(np.int64), length)
    index = low[:, None] + np.arange(int((high - low).max()))
    weights = np.maximum(0.0, 1.0 - np.abs(index + 0.5 - centre[:, None]) / reach)
    return index, _normalised(np.where(index < high[:, None], weights, 0.0))


def _box(position: NDArray[np.float64], scale: float, length: int) -> Weighed:
    if not is_box("area", scale):
        return _bilinear(position, scale, length)
    reach = half_width("area", scale)
    low = np.clip(position + 0.5 - reach, 0.0, length)
    high = np.clip(position + 0.5 + reach, 0.0, length)
    index = np.floor(low + 1e-9).astype(np.int64)[:, None] + np.arange(int(np.ceil(scale)) + 1)
    cover = np.minimum(index + 1, high[:, None]) - np.maximum(index, low[:, None])
    return index, _normalised(np.where(cover > 1e-9, cover, 0.0))


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_RULES: dict[ResizeRule, Callable[[NDArray[np.float64], float, int], Weighed]] = {
    "bilinear": _bilinear,
    "antialias": _triangle,
    "nearest": _nearest,
    "area": _box,
}
