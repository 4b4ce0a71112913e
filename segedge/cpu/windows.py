"""Windows: the logits of overlapping windows as one grid that the tail reads like any other.

At a pixel the logits of the windows that see it are interpolated, each on its own grid, and
averaged. Windows are the pairs of a row of windows and a column of windows, so along an axis the
mean is piecewise linear between *knots*: the grid points of all windows, and the pixels at which
one begins or ends, where the mean may jump. A grid of the mean's values at the knots is all that
the tail needs: it interpolates between them what averaging at full resolution gives, and that
never exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size, grid_from_network
from segedge.cpu.arrays import FlatOutput
from segedge.cpu.kernels.cells import INNER, KERNEL, Doubles, Floats, Ints, Longs, finite
from segedge.cpu.kernels.simd import take_ticket
from segedge.cpu.plan import Axis, knot_axis
from segedge.cpu.workers import Workers, shared_workers

_NEAR = 1e-6
"""Knots closer than this, in pixels, are one: maps round."""
_NO_LOGITS = np.zeros(0, np.float32)


@dataclass(frozen=True)
class WindowTaps:
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

    Where they are as many as the pixels, they are the pixels.

    Args:
        frame: Pixels of the frame.
        window: Pixels of a window.
        grid: Grid points of a window.
        starts: First pixel of each window.
        align_corners: Whether the corner grid points lie on the corner pixels.
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
        workers: Workers | None = None,
    ) -> None:
        """Prepare tables.

        Args:
            card: What the network's output means: logits, not labels.
            frame: Size of the frame.
            window: Size of the network's input.
            grid: Height and width of the network's output.
            starts: First rows and first columns of the windows.
            workers: Threads to share the work; the process-wide pool by default.
        """
        self._workers = workers or shared_workers()
        corners = card.align_corners
        extents = (
            (frame.height, window.height, grid.height, starts[0]),
            (frame.width, window.width, grid.width, starts[1]),
        )
        rows, columns = (axis_knots(*extent, align_corners=corners) for extent in extents)
        self.axes: tuple[Axis, Axis] = (
            knot_axis(frame.height, rows), knot_axis(frame.width, columns)
        )  # fmt: skip
        """Tables for the tail, rows and columns."""
        self.size = Size(rows.size, columns.size)
        """Knots of each axis."""
        self._taps = [
            window_taps(knots, *extent[1:], align_corners=corners)
            for knots, extent in zip((rows, columns), extents, strict=True)
        ]
        self._output = FlatOutput(card, grid, self._workers)
        whole = FlatOutput(card, self.size, self._workers)
        self._strides = whole.strides
        channels = whole.channels
        height, width = self.size.height, self.size.width
        is_nchw = card.logits_layout == "nchw"
        self.shape = (1, channels, height, width) if is_nchw else (1, height, width, channels)
        """Of the array that is filled: as the network's output, on the grid of the knots."""
        self._ticket = np.zeros(1, np.int64)
        self._whole = _NO_LOGITS
        self._rows = self._columns = self._taps[0][0]

    def add(self, output: NDArray[Any], row: int, column: int, whole: NDArray[np.float32]) -> None:
        """Add what one window says.

        Args:
            output: The network's output for it, with a batch axis of one.
            row: Which row of windows it is in.
            column: Which column of windows.
            whole: C-contiguous float32 of `shape`, zeros at first.

        Raises:
            ModelError: The output does not have the shape that the card and the grid say.
        """
        self._output.take(output)
        self._whole = whole.reshape(-1)
        self._rows, self._columns = self._taps[0][row], self._taps[1][column]
        self._ticket[0] = 0
        self._workers.run(self._add)
        self._output.release()
        self._whole = _NO_LOGITS

    def _add(self, participant: int) -> None:
        rows, columns, output = self._rows, self._columns, self._output
        _add_window(
            self._ticket, output.flat, output.strides, output.channels,
            rows.first, rows.low, rows.high, rows.share, rows.weight,
            columns.first, columns.low, columns.high, columns.share, columns.weight,
            self._whole, self._strides,
        )  # fmt: skip


@njit(**KERNEL)
def _add_window(
    ticket: Longs,
    logits: Floats,
    strides: Longs,
    channels: int,
    row_first: int,
    row_low: Ints,
    row_high: Ints,
    row_share: Doubles,
    row_weight: Doubles,
    column_first: int,
    column_low: Ints,
    column_high: Ints,
    column_share: Doubles,
    column_weight: Doubles,
    whole: Floats,
    whole_strides: Longs,
) -> None:
    """Add a window's interpolated logits to the knots that it sees, a row of knots at a time."""
    line = np.zeros(column_low[-1] + 2)
    while True:
        row = take_ticket(ticket)
        if row >= row_low.size:
            return
        above, below = row_low[row] * strides[1], row_high[row] * strides[1]
        out_row = (row_first + row) * whole_strides[1] + column_first * whole_strides[2]
        for c in range(channels):
            _mix_rows(
                logits, c * strides[0] + above, c * strides[0] + below, strides[2],
                row_share[row], row_weight[row], line[: column_high[-1] + 1],
            )  # fmt: skip
            start = c * whole_strides[0] + out_row
            for x in range(column_low.size):
                left = line[column_low[x]]
                value = left + (line[column_high[x]] - left) * column_share[x]
                whole[start + x * whole_strides[2]] += np.float32(value * column_weight[x])


@njit(**INNER)
def _mix_rows(
    logits: Floats, above: int, below: int, step: int, share: float, weight: float, line: Doubles
) -> None:
    """One channel between two grid rows, weighted."""
    for x in range(line.size):
        top = finite(logits[above + x * step])
        bottom = finite(logits[below + x * step])
        line[x] = weight * (top + (bottom - top) * share)
