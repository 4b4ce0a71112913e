"""Kernels that carry logits along a field of motion; see `segedge.reference.motion`.

A row of carried points is first placed, once, in the grid of each key; then every channel is read
there. So the positions cost as much as one channel, and a channel is a plain loop over a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.simd import take_ticket
from segedge.cpu.kernels.tables import HUGE, INNER, KERNEL, Doubles, Floats, Ints, Longs, Strides

_ROWS = 4
_LOW, _HIGH = np.float32(-HUGE), np.float32(HUGE)
_MOST_LEVELS = 255.0


class Points(NamedTuple):
    """The carried points along one axis."""

    position: Doubles
    """On the network's grid."""
    least: Doubles
    """Lowest displacement in pixels that stays in the frame."""
    most: Doubles
    """Highest one."""
    scale: float
    """Grid points a pixel."""
    last: float
    """Highest position on the grid."""


class Blocks(NamedTuple):
    """The blocks of a field around each carried point along one axis."""

    low: Ints
    high: Ints
    share: Doubles
    """Weight of ``high``."""


class Way(NamedTuple):
    """The way from a frame to one of its keys."""

    logits: Floats
    """Of the key, flat, finite."""
    displacement: Floats
    """Bh x Bw x 2, x before y, in pixels."""
    residual: Floats
    """Bh x Bw, in grey levels."""
    rows: Blocks
    columns: Blocks
    nearness: float
    """1 / frames between."""


class Places(NamedTuple):
    """A row of carried points in the grid of a key: scratch of one thread."""

    line: Doubles
    """Displacement and residual along a row of blocks, 3 x at least Bw: far ones would lose their
    fractions in float32."""
    first: NDArray[np.uint32]
    """Index of the grid point above left of each."""
    right: NDArray[np.uint32]
    """Elements from there to the one on the right: none at the border."""
    below: NDArray[np.uint32]
    """Elements to the one below."""
    across: Floats
    """Weight of what is on the right."""
    down: Floats
    """Weight of what is below."""
    weight: Floats
    """Of the key."""


@njit(**KERNEL)
def copy_finite(logits: Floats, out: Floats) -> None:
    """Copy; infinite logits become huge, NaN as minus infinity."""
    for i in range(logits.size):
        value = logits[i]
        value = value if value > _LOW else _LOW  # NaN is not
        out[i] = value if value < _HIGH else _HIGH


@njit(**KERNEL)
def carry_rows(
    ticket: Longs, rows: Points, columns: Points, strides: Strides, channels: int,
    first: Way, second: Way, is_pair: bool, least_residual: float,
    out: Floats, out_strides: Strides, one: Places, two: Places, line: Floats,
) -> None:  # fmt: skip
    """Logits of the carried points, a few rows at a time, until no ticket is left.

    ``strides`` are elements between channels, rows and columns of the keys, ``out_strides`` of the
    result; ``second`` is read only of a pair; ``line`` is scratch of this thread, a float a column.
    """
    height, width = rows.position.size, columns.position.size
    while True:
        start = take_ticket(ticket) * _ROWS
        if start >= height:
            return
        for y in range(start, min(start + _ROWS, height)):
            _place_row(first, rows, columns, strides, y, least_residual, one)
            if is_pair:
                _place_row(second, rows, columns, strides, y, least_residual, two)
                _share_row(one.weight, two.weight)
            for c in range(channels):
                base = c * strides[0]
                at = c * out_strides[0] + y * out_strides[1]
                step = out_strides[2]
                if is_pair:
                    _read_row(first.logits[base:], one, line)
                    if step == 1:
                        _mix_row(second.logits[base:], two, line, out[at : at + width])
                    else:
                        _mix_row(second.logits[base:], two, line, out[at::step])
                elif step == 1:
                    _read_row(first.logits[base:], one, out[at : at + width])
                else:
                    _read_row(first.logits[base:], one, out[at::step])


@njit(**INNER)
def _place_row(
    way: Way, rows: Points, columns: Points, strides: Strides, y: int, least_residual: float,
    places: Places,
) -> None:  # fmt: skip
    """Where the points of row ``y`` lie in the key's grid, and what weight the key has there."""
    _block_line(way, y, places.line)
    line, low, high, share = places.line, way.columns.low, way.columns.high, way.columns.share
    row, least_y, most_y = rows.position[y], rows.least[y], rows.most[y]
    for x in range(columns.position.size):
        i, j, part = low[x], high[x], share[x]
        move_x = _inside(line[0, i] + (line[0, j] - line[0, i]) * part,
                         columns.least[x], columns.most[x])  # fmt: skip
        move_y = _inside(line[1, i] + (line[1, j] - line[1, i]) * part, least_y, most_y)
        residual = line[2, i] + (line[2, j] - line[2, i]) * part
        across = min(max(columns.position[x] + columns.scale * move_x, 0.0), columns.last)
        down = min(max(row + rows.scale * move_y, 0.0), rows.last)
        left, top = np.int64(across), np.int64(down)
        places.first[x] = top * strides[1] + left * strides[2]
        places.right[x] = strides[2] if left < columns.last else 0
        places.below[x] = strides[1] if top < rows.last else 0
        places.across[x] = across - left
        places.down[x] = down - top
        residual = residual if residual > 0.0 else 0.0  # NaN is not
        residual = residual if residual < _MOST_LEVELS else _MOST_LEVELS
        places.weight[x] = way.nearness / (residual + least_residual)


@njit(**INNER)
def _block_line(way: Way, y: int, line: Doubles) -> None:
    """Displacement and residual of the blocks around a row of points, between both."""
    above, below, share = way.rows.low[y], way.rows.high[y], way.rows.share[y]
    for b in range(way.residual.shape[1]):
        for part in range(2):
            value = np.float64(way.displacement[above, b, part])
            line[part, b] = value + (way.displacement[below, b, part] - value) * share
        value = np.float64(way.residual[above, b])
        line[2, b] = value + (way.residual[below, b] - value) * share


@njit(**INNER)
def _inside(move: float, least: float, most: float) -> float:
    """The displacement within its bounds; NaN is the lower one."""
    move = move if move > least else least
    return move if move < most else most


@njit(**INNER)
def _share_row(one: Floats, two: Floats) -> None:
    """The second weight becomes its share of both."""
    for x in range(one.size):
        two[x] = two[x] / (one[x] + two[x])


@njit(**INNER)
def _read(plane: Floats, places: Places, x: int) -> Any:
    """One channel of a key at one point, float32."""
    first, right, below = places.first[x], places.right[x], places.below[x]
    above = plane[first]
    above += (plane[first + right] - above) * places.across[x]
    under = plane[first + below]
    under += (plane[first + below + right] - under) * places.across[x]
    value: float = above + (under - above) * places.down[x]
    return value


@njit(**INNER)
def _read_row(plane: Floats, places: Places, out: Floats) -> None:
    for x in range(places.weight.size):
        out[x] = _read(plane, places, x)


@njit(**INNER)
def _mix_row(plane: Floats, places: Places, line: Floats, out: Floats) -> None:
    """The logits of the first key in ``line`` with those of the second."""
    for x in range(places.weight.size):
        value = line[x]
        out[x] = value + (_read(plane, places, x) - value) * places.weight[x]
