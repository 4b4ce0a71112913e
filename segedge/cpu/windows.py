"""Windows: the logits of overlapping windows as one grid that the tail reads like any other.

At a pixel the logits of the windows that see it are interpolated, each on its own grid, and
averaged. Windows are the pairs of a row of windows and a column of windows, so along an axis the
mean is piecewise linear between *knots*: the grid points of all windows, and the pixels at which
one begins or ends, where the mean may jump. A grid of the mean's values at the knots is all that
the tail needs: it interpolates between them what averaging at full resolution gives, and that
never exists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size, grid_from_network
from segedge.cpu.arrays import FlatOutput
from segedge.cpu.kernels.cells import finite
from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.simd import take_ticket
from segedge.cpu.kernels.tables import INNER, KERNEL, Doubles, Floats, Logits, Longs, Strides
from segedge.cpu.plan import Axis, knot_axis
from segedge.cpu.workers import Workers, shared_workers

_NEAR = 1e-6
"""Knots closer than this, in pixels, are one: maps round."""


class WindowTaps(NamedTuple):
    """One row (or column) of windows: the knots that it sees, and what it adds to each."""

    first: int
    """Index of its first knot; the others follow."""
    low: NDArray[np.int32]
    """Index of the grid point before each knot."""
    high: NDArray[np.int32]
    """Index of the grid point after each knot."""
    share: NDArray[np.float64]
    """Weight of ``high``, 0..1."""
    weight: NDArray[np.float64]
    """One over the number of windows that see the knot."""


def axis_knots(
    frame: int, window: int, grid: int, starts: Sequence[int], *, align_corners: bool
) -> NDArray[np.float64]:
    """Frame positions between which the mean of the windows is linear, in ascending order.

    Where they are as many as the pixels, they are the pixels. Windows of ``grid`` points each begin
    at the pixels ``starts``.
    """
    edges = {0, frame - 1}
    for start in starts:
        edges |= {start - 1, start, start + window - 1, start + window}
    pixels = np.array(sorted(edge for edge in edges if 0 <= edge < frame), np.float64)
    own = _grid_positions(window, grid, align_corners)
    inner = np.sort(np.concatenate([start + own for start in starts]))
    inner = inner[(inner > 0) & (inner < frame - 1)]
    after = np.searchsorted(pixels, inner)
    gap = pixels[after] - pixels[np.maximum(after - 1, 0)]
    # Between two pixels side by side, nobody reads.
    inner = inner[(gap > 1.0) & (pixels[after] - inner > _NEAR)]
    inner = inner[inner - pixels[np.searchsorted(pixels, inner) - 1] > _NEAR]
    inner = inner[np.diff(inner, prepend=-1.0) > _NEAR]
    knots = np.sort(np.concatenate([pixels, inner]))
    return np.arange(frame, dtype=np.float64) if knots.size >= frame else knots


def window_taps(
    knots: NDArray[np.float64],
    window: int,
    grid: int,
    starts: Sequence[int],
    *,
    align_corners: bool,
) -> list[WindowTaps]:
    """What each window of an axis adds to the knots; arguments as for `axis_knots`."""
    axis = grid_from_network(Size(grid, 1), Size(window, 1), align_corners=align_corners).y
    begin = np.searchsorted(knots, starts)
    end = np.searchsorted(knots, [start + window - 1 for start in starts], side="right")
    seen = np.zeros(knots.size)
    for first, stop in zip(begin, end, strict=True):
        seen[first:stop] += 1
    taps = []
    for start, first, stop in zip(starts, begin.tolist(), end.tolist(), strict=True):
        position = np.clip(axis.scale * (knots[first:stop] - start) + axis.offset, 0, grid - 1.0)
        low = np.floor(position).astype(np.int32)
        high = np.minimum(low + 1, grid - 1).astype(np.int32)
        taps.append(WindowTaps(first, low, high, position - low, 1.0 / seen[first:stop]))
    return taps


def _grid_positions(window: int, grid: int, align_corners: bool) -> NDArray[np.float64]:
    """Window pixels on which the grid points lie; a map that reads one point has no others."""
    axis = grid_from_network(Size(grid, 1), Size(window, 1), align_corners=align_corners).y
    if axis.scale == 0.0:
        return np.zeros(0)
    positions = (np.arange(grid) - axis.offset) / axis.scale
    whole = np.round(positions)
    return np.where(np.abs(positions - whole) < _NEAR, whole, positions)


class WindowGrid:
    """The grid of a frame's knots, filled window by window.

    Made for one frame size; used by one thread at a time.
    """

    def __init__(
        self,
        card: ModelCard,
        frame: Size,
        window: Size,
        grid: Size,
        starts: tuple[Sequence[int], Sequence[int]],
        *,
        under: Size,
        workers: Workers | None = None,
    ) -> None:
        """Prepare tables for logits on a window's grid.

        Windows start at these rows and columns of ``under``, the frame's size as they see it.
        """
        self._workers = workers or shared_workers()
        corners = card.align_corners
        extents = (
            (under.height, window.height, grid.height, starts[0]),
            (under.width, window.width, grid.width, starts[1]),
        )
        rows, columns = (axis_knots(*extent, align_corners=corners) for extent in extents)
        self.axes: tuple[Axis, Axis] = (
            knot_axis(frame.height, under.height, rows),
            knot_axis(frame.width, under.width, columns),
        )
        """Tables for the tail, rows and columns."""
        self.size = Size(rows.size, columns.size)
        """Knots of each axis."""
        self._taps = [
            window_taps(knots, *extent[1:], align_corners=corners)
            for knots, extent in zip((rows, columns), extents, strict=True)
        ]
        self._output = FlatOutput(card, grid, self._workers)
        whole = FlatOutput(card, self.size, self._workers)
        self._strides, self.shape = whole.strides, whole.shape
        """Of the array that is filled: as the network's output, on the grid of the knots."""
        self.sums = card.mask_scale is not None
        """Whether logits are logarithms of sums of masks: sums are added then, as the networks' own
        post-processing does, and their logarithm is left to the caller."""
        self._ticket = np.zeros(1, np.int64)

    def add(self, output: NDArray[Any], row: int, column: int, whole: NDArray[np.float32]) -> None:
        """Add what one window says, by its row and column among them.

        Its output is a batch of one, ``whole`` an array of `shape`, zeros at first.

        Raises:
            ModelError: The output does not have the shape that the card and the grid say.
        """
        self._output.take(output)
        logits, rows, columns = self._output.logits, self._taps[0][row], self._taps[1][column]
        flat = whole.reshape(-1)
        self._ticket[0] = 0
        self._workers.run(
            lambda _: _add_window(
                self._ticket, logits, rows, columns, self.sums, flat, self._strides
            )
        )
        self._output.release()


@njit(**KERNEL)
def _add_window(
    ticket: Longs,
    logits: Logits,
    rows: WindowTaps,
    columns: WindowTaps,
    sums: bool,
    whole: Floats,
    whole_strides: Strides,
) -> None:
    """Add a window's interpolated logits to the knots that it sees, a row of knots at a time."""
    strides, low, high = logits.strides, columns.low, columns.high
    line = np.zeros(low[-1] + 2)
    while True:
        row = take_ticket(ticket)
        if row >= rows.low.size:
            return
        above, below = rows.low[row] * strides[1], rows.high[row] * strides[1]
        out_row = (rows.first + row) * whole_strides[1] + columns.first * whole_strides[2]
        for c in range(logits.channels):
            _mix_rows(
                logits.flat, c * strides[0] + above, c * strides[0] + below, strides[2],
                rows.share[row], line[: high[-1] + 1],
            )  # fmt: skip
            start = c * whole_strides[0] + out_row
            for x in range(low.size):
                left = line[low[x]]
                value = left + (line[high[x]] - left) * columns.share[x]
                if sums:
                    value = math.exp(value)
                weight = rows.weight[row] * columns.weight[x]
                whole[start + x * whole_strides[2]] += np.float32(value * weight)


@njit(**INNER)
def _mix_rows(
    logits: Floats, above: int, below: int, step: int, share: float, line: Doubles
) -> None:
    """One channel between two grid rows."""
    for x in range(line.size):
        top = finite(logits[above + x * step])
        bottom = finite(logits[below + x * step])
        line[x] = top + (bottom - top) * share
