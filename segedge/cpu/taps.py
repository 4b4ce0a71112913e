"""Per-axis resampling tables: for every output pixel, which input pixels with which weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ResizeRule
from segedge.card.geometry import AxisMap

_Taps = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Input index (possibly outside the image) and weight, output pixels x taps."""


@dataclass(frozen=True)
class Taps:
    """A window of equal width for each output pixel."""

    first: NDArray[np.int32]
    """First input pixel of each window; the whole window is inside the image."""
    weights: NDArray[np.float32]
    """Output pixels x window width; each row sums to one."""


def axis_taps(rule: ResizeRule, axis: AxisMap, start: int, end: int, length: int) -> Taps:
    """Tables for output pixels ``start..end`` of an axis.

    Args:
        rule: The card's resize rule.
        axis: Input index from output index.
        start: First output pixel with content.
        end: End of the output pixels with content.
        length: Input pixels of the axis.
    """
    position = axis.scale * np.arange(start, end, dtype=np.float64) + axis.offset
    index, weights = _RULES[rule](position, axis.scale, length)
    return _windows(index, weights, length)


def _bilinear(position: NDArray[np.float64], scale: float, length: int) -> _Taps:
    inside = np.clip(position, 0.0, length - 1.0)
    low = np.floor(inside).astype(np.int64)
    share = inside - low
    return np.stack([low, low + 1], 1), np.stack([1.0 - share, share], 1)


def _nearest(position: NDArray[np.float64], scale: float, length: int) -> _Taps:
    # The pixel whose area holds the centre, as Pillow and torch's nearest-exact; the small number
    # makes a centre on a border between two pixels go up, whatever the rounding of the map.
    return np.floor(position + 0.5 + 1e-6).astype(np.int64)[:, None], np.ones((position.size, 1))


def _triangle(position: NDArray[np.float64], scale: float, length: int) -> _Taps:
    # Pillow's precompute_coeffs with the bilinear filter, which torch's antialias=True follows.
    reach = max(scale, 1.0)
    centre = position + 0.5
    low = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + reach + 0.5).astype(np.int64), length)
    index = low[:, None] + np.arange(int((high - low).max()))
    weights = np.maximum(0.0, 1.0 - np.abs(index + 0.5 - centre[:, None]) / reach)
    return index, _normalised(np.where(index < high[:, None], weights, 0.0))


def _box(position: NDArray[np.float64], scale: float, length: int) -> _Taps:
    if scale <= 1.0:
        return _bilinear(position, scale, length)
    low = np.clip(position + 0.5 - scale / 2, 0.0, length)
    high = np.clip(position + 0.5 + scale / 2, 0.0, length)
    index = np.floor(low + 1e-9).astype(np.int64)[:, None] + np.arange(int(np.ceil(scale)) + 1)
    cover = np.minimum(index + 1, high[:, None]) - np.maximum(index, low[:, None])
    return index, _normalised(np.where(cover > 1e-9, cover, 0.0))


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _windows(index: NDArray[np.int64], weights: NDArray[np.float64], length: int) -> Taps:
    """Clamp to the image and bring all windows to the width of the widest."""
    index = np.clip(index, 0, length - 1)
    used = weights != 0.0
    low = np.where(used, index, length).min(axis=1)
    high = np.where(used, index, -1).max(axis=1)
    width = int((high - low).max()) + 1
    first = np.minimum(low, length - width)
    table = np.zeros((index.shape[0], width))
    rows = np.broadcast_to(np.arange(index.shape[0])[:, None], index.shape)
    np.add.at(table, (rows[used], (index - first[:, None])[used]), weights[used])
    return Taps(first.astype(np.int32), table.astype(np.float32))


_RULES: dict[ResizeRule, Callable[[NDArray[np.float64], float, int], _Taps]] = {
    "bilinear": _bilinear,
    "antialias": _triangle,
    "nearest": _nearest,
    "area": _box,
}
