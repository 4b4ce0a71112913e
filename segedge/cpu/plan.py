"""Per-axis tables of the tail: which output pixels lie in which cell of the logit grid.

Along an axis the output is cut into *spans*. Inside a span every pixel interpolates the same two
grid points (or, at the border and in lookups, reads one), so whatever holds for the span's corners
is worked out once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import AxisMap
from segedge.cpu.kernels.tables import Spans

_ROWS_A_UNIT = 32
"""Most output rows in one piece of work, so that small grids still feed all threads."""


@dataclass(frozen=True)
class Axis:
    """The spans of one axis and the weight of every pixel."""

    ends: NDArray[np.int32]
    """End (exclusive) of each span; it starts where the one before ends."""
    low: NDArray[np.int32]
    """Grid index on the near side of each span."""
    high: NDArray[np.int32]
    """Grid index on the far side: ``low`` or ``low + 1``."""
    weights: NDArray[np.float64]
    """Share of ``high`` for each pixel, 0..1."""
    map: AxisMap
    """Grid index from pixel index, before clamping; from it a bend inside a span is estimated."""

    @property
    def starts(self) -> NDArray[np.int32]:
        """Start of each span."""
        return np.concatenate([np.zeros(1, np.int32), self.ends[:-1]])


def bilinear_axis(pixels: int, grid: int, axis: AxisMap) -> Axis:
    """Spans for linear interpolation between grid points, clamped at the border."""
    position = np.clip(axis.scale * np.arange(pixels) + axis.offset, 0.0, grid - 1.0)
    low = np.minimum(np.floor(position).astype(np.int32), max(grid - 2, 0))
    weights = position - low
    # The clamped pixels read one grid point; spans of their own keep the cells' maps linear.
    low[position >= grid - 1.0] = grid - 1
    weights[position >= grid - 1.0] = 0.0
    high = np.where((position > 0.0) & (position < grid - 1.0), low + 1, low).astype(np.int32)
    return _axis(low, high, weights, axis)


def nearest_axis(pixels: int, grid: int, axis: AxisMap) -> Axis:
    """Spans for a lookup at the nearest grid point."""
    position = np.clip(axis.scale * np.arange(pixels) + axis.offset, 0.0, grid - 1.0)
    index = np.floor(position + 0.5).astype(np.int32)
    return _axis(index, index, np.zeros(pixels), axis)


def knot_axis(pixels: int, extent: int, knots: NDArray[np.float64]) -> Axis:
    """Spans for linear interpolation between grid points at any positions of an axis, ascending.

    The first lies at 0, the last at ``extent - 1``; the axis' ``pixels`` are resized to ``extent``.
    """
    position = (np.arange(pixels) + 0.5) * (extent / pixels) - 0.5
    position = np.clip(position, 0.0, extent - 1.0)
    low = np.searchsorted(knots, position, side="right") - 1
    high = np.minimum(low + 1, knots.size - 1)
    gap = np.where(high > low, knots[high] - knots[low], 1.0)
    # No line fits all spans: the search for a bend starts at a span's first pixel.
    search = AxisMap(1.0, 0.0)
    return _axis(low.astype(np.int32), high.astype(np.int32), (position - knots[low]) / gap, search)


def part_of(axis: Axis, first: int, end: int) -> Axis:
    """The spans of some of an axis' pixels."""
    counts = np.diff(axis.ends, prepend=0)
    low, high = (np.repeat(index, counts)[first:end] for index in (axis.low, axis.high))
    shifted = AxisMap(axis.map.scale, axis.map.offset + axis.map.scale * first)
    return _axis(low, high, axis.weights[first:end], shifted)


def is_lookup(*axes: Axis) -> bool:
    """Whether no pixel of these axes mixes two grid points."""
    return not any(np.any(axis.weights) for axis in axes)


def spans_of(rows: Axis, columns: Axis) -> Spans:
    """Both axes as the kernels read them."""
    scale, offset = columns.map.scale, columns.map.offset
    return Spans(
        _row_units(rows), rows.weights, columns.ends, columns.low, columns.high, columns.weights,
        columns.weights.astype(np.float32), (float(scale), float(offset), 1.0 / (scale or 1)),
    )  # fmt: skip


def _row_units(rows: Axis) -> NDArray[np.int32]:
    """Pieces of work: rows of (first output row, end, grid row above, grid row below)."""
    units = [
        (first, min(first + _ROWS_A_UNIT, end), low, high)
        for start, end, low, high in zip(
            rows.starts.tolist(), rows.ends.tolist(), rows.low.tolist(), rows.high.tolist(),
            strict=True,
        )
        for first in range(start, end, _ROWS_A_UNIT)
    ]  # fmt: skip
    return np.array(units, np.int32)


def _axis(
    low: NDArray[np.int32], high: NDArray[np.int32], weights: NDArray[np.float64], axis: AxisMap
) -> Axis:
    changes = np.flatnonzero((np.diff(low) != 0) | (np.diff(high) != 0)) + 1
    ends = np.append(changes, low.size).astype(np.int32)
    return Axis(ends, low[ends - 1], high[ends - 1], weights, axis)
