"""The resize rules: which input pixels an output pixel is made of, along one axis.

The one place of a rule for the reference and the CPU; the CUDA kernels, which compute weights on
the fly, take `half_width` from here and name what they know of a rule in `segedge.cuda.preprocess`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ResizeRule
from segedge.card.geometry import AxisMap, PlaneMap

UP_AT_BORDERS = 1e-6
"""Added to centres for a nearest lookup: one on a border between two pixels goes up, whatever the
rounding of the map."""
Weighed = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Input index (possibly outside the image) and weight, output pixels x taps."""
_WEIGHT_UNITS = 1 << 22
"""Pillow's weights are whole multiples of one part in so many."""


@dataclass(frozen=True)
class Filter:
    """What a pixel weighs by its distance from the centre, where the image is enlarged.

    Where it shrinks, distances are divided by the scale.
    """

    weight: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    reach: float
    """Nothing weighs anything beyond."""


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
    - ``pillow-box``, ``pillow-bilinear``, ``pillow-hamming``, ``pillow-bicubic``,
      ``pillow-lanczos``: Pillow's filters of these names, to the bit: see `resample`.
    """
    if rule in PILLOW:
        return _pillow(PILLOW[rule], axis, outputs, length)
    position = axis.scale * np.arange(outputs.start, outputs.stop, dtype=np.float64) + axis.offset
    return _RULES[rule](position, axis.scale, length)


def axis_matrix(
    rule: ResizeRule, axis: AxisMap, outputs: range, length: int
) -> NDArray[np.float64]:
    """Resampling of one axis as a matrix, output pixels x input pixels; rows sum to one."""
    index, weights = axis_taps(rule, axis, outputs, length)
    matrix = np.zeros((len(outputs), length))
    np.add.at(matrix, (np.arange(len(outputs))[:, None], np.clip(index, 0, length - 1)), weights)
    return matrix if is_rounded(rule) else np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def resample(
    planes: NDArray[np.float64], rule: ResizeRule, source: PlaneMap, rows: range, columns: range
) -> NDArray[np.float64]:
    """Output rows and columns of planes of 0..255, which ``source`` finds in them.

    Pillow works in bytes: it resamples along rows first, rounds to whole levels and cuts what is
    beyond 0..255, and does the same down the columns. So do the rules with its name. (Pillow 13
    takes the other order where the height shrinks more than the width, and rounds otherwise then.)
    """
    height, width = planes.shape[-2:]
    across = planes @ axis_matrix(rule, source.x, columns, width).T
    down = axis_matrix(rule, source.y, rows, height)
    if not is_rounded(rule):
        return np.asarray(down @ across)
    return whole_levels(down @ whole_levels(across))


def whole_levels(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What fits a byte; halves go up."""
    return np.asarray(np.clip(np.floor(values + 0.5), 0.0, 255.0))


def is_rounded(rule: ResizeRule) -> bool:
    """Whether each axis is rounded to whole levels, rows before columns."""
    return rule in PILLOW


def is_box(rule: ResizeRule, scale: float) -> bool:
    """Whether an axis takes means over boxes."""
    return rule == "area" and scale > 1.0


def half_width(rule: ResizeRule, scale: float) -> float:
    """How far a wide filter reaches from the centre, in input pixels."""
    if rule in PILLOW:
        return PILLOW[rule].reach * max(scale, 1.0)
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


def _pillow(kind: Filter, axis: AxisMap, outputs: range, length: int) -> Weighed:
    # precompute_coeffs and normalize_coeffs_8bpc of Pillow's Resample.c. Its centre is computed
    # from whole numbers, which the map's offset has been through: a box ends on such a bit.
    shift = round((axis.offset + 0.5) / axis.scale - 0.5)
    centre = (np.arange(outputs.start, outputs.stop) + shift + 0.5) * axis.scale
    stretch = max(axis.scale, 1.0)
    reach = kind.reach * stretch
    low = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + reach + 0.5).astype(np.int64), length)
    index = low[:, None] + np.arange(int((high - low).max()))
    distance = (index - centre[:, None] + 0.5) / stretch
    weights = _normalised(np.where(index < high[:, None], kind.weight(distance), 0.0))
    units = np.trunc(weights * _WEIGHT_UNITS + np.copysign(0.5, weights))
    return index, units / _WEIGHT_UNITS


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_RULES: dict[ResizeRule, Callable[[NDArray[np.float64], float, int], Weighed]] = {
    "bilinear": _bilinear,
    "antialias": _triangle,
    "nearest": _nearest,
    "area": _box,
}


def _box_weight(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _hamming_weight(x: NDArray[np.float64]) -> NDArray[np.float64]:
    window = np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x))
    return np.where(np.abs(x) < 1.0, window, 0.0)


def _bicubic_weight(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos_weight(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((x >= -3.0) & (x < 3.0), np.sinc(x) * np.sinc(x / 3.0), 0.0)


PILLOW: dict[ResizeRule, Filter] = {
    "pillow-box": Filter(_box_weight, 0.5),
    "pillow-bilinear": Filter(lambda x: np.maximum(0.0, 1.0 - np.abs(x)), 1.0),
    "pillow-hamming": Filter(_hamming_weight, 1.0),
    "pillow-bicubic": Filter(_bicubic_weight, 2.0),
    "pillow-lanczos": Filter(_lanczos_weight, 3.0),
}
"""The rules that compute as Pillow does."""
