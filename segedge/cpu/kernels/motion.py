"""Kernels that carry logits along a field of motion; see `segedge.reference.motion`.

A row of carried points is first placed, once, in the grid of each key; then tiles of points and
channels are read there. A key's channels lie side by side, so that one load takes a tile's: read
plane by plane, each value of each corner is a load of its own, and all takes four times as long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.simd import mix_tiles, read_tile, take_ticket
from segedge.cpu.kernels.tables import (
    HUGE,
    INNER,
    KERNEL,
    TILE,
    Doubles,
    Floats,
    Ints,
    Longs,
    Strides,
    table,
)

_ROWS = 4
_LOW, _HIGH = np.float32(-HUGE), np.float32(HUGE)
_MOST_LEVELS = 255.0


@table
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


@table
class Blocks(NamedTuple):
    """The blocks of a field around each carried point along one axis."""

    low: Ints
    high: Ints
    share: Doubles
    """Weight of ``high``."""


@table
class Way(NamedTuple):
    """The way from a frame to one of its keys."""

    logits: Floats
    """Of the key, Gh x Gw x channels filled up to whole tiles, finite."""
    field: Floats
    """3 x Bh x Bw: displacement, x before y, in pixels, and residual in grey levels."""
    rows: Blocks
    columns: Blocks
    nearness: float
    """1 / frames between."""


@table
class Places(NamedTuple):
    """A row of carried points in the grid of a key: scratch of one thread.

    Rows of one array from ``first`` on, as `simd.read_tile` wants them; whole tiles of them.
    """

    line: Doubles
    """Displacement and residual along a row of blocks, 3 x at least Bw: far ones would lose their
    fractions in float32."""
    moves: Doubles
    """The same at each point."""
    first: NDArray[np.uint32]
    """Values before the grid point above left of each."""
    right: NDArray[np.uint32]
    """Values from there to the one on the right: none at the border."""
    below: NDArray[np.uint32]
    """Values to the one below."""
    across: Floats
    """Weight of what is on the right."""
    down: Floats
    """Weight of what is below."""
    weight: Floats
    """Of the key."""


@njit(**KERNEL)
def keep_finite(logits: Floats, strides: Strides, channels: int, out: Floats) -> None:
    """Copy to Gh x Gw x whole tiles; infinite logits become huge, NaN as minus infinity."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            at = y * strides[1] + x * strides[2]
            for c in range(channels):
                value = logits[at + c * strides[0]]
                value = value if value > _LOW else _LOW  # NaN is not
                out[y, x, c] = value if value < _HIGH else _HIGH
            for c in range(channels, out.shape[2]):
                out[y, x, c] = 0.0


@njit(**KERNEL)
def carry_rows(
    ticket: Longs, rows: Points, columns: Points, channels: int,
    first: Way, second: Way, is_pair: bool, least_residual: float,
    out: Floats, out_strides: Strides, one: Places, two: Places, tile: Floats,
) -> None:  # fmt: skip
    """Logits of the carried points, a few rows at a time, until no ticket is left.

    ``out_strides`` are elements between channels, rows and columns of the result; ``second`` is
    read only of a pair; ``tile`` is scratch of this thread, `TILE` x `TILE`.
    """
    height, width = rows.position.size, columns.position.size
    one_logits, two_logits = first.logits.ctypes.data, second.logits.ctypes.data
    one_places, two_places = one.first.ctypes.data, two.first.ctypes.data
    stride = 4 * one.first.size
    plane, step = 4 * out_strides[0], out_strides[2]
    is_direct = step == 1 and width >= TILE
    while True:
        start = take_ticket(ticket) * _ROWS
        if start >= height:
            return
        for y in range(start, min(start + _ROWS, height)):
            _place_row(first, rows, columns, y, least_residual, one)
            if is_pair:
                _place_row(second, rows, columns, y, least_residual, two)
                _share_row(one.weight, two.weight)
            row = out.ctypes.data + 4 * y * out_strides[1]
            for group in range(0, width, TILE):
                x = max(0, min(group, width - TILE))  # the last may overlap the one before
                for c in range(0, channels, TILE):
                    count = min(TILE, channels - c)
                    target, apart = row + 4 * x + c * plane, plane
                    if not is_direct:
                        target, apart = tile.ctypes.data, 4 * TILE
                    if is_pair:
                        mix_tiles(one_logits + 4 * c, one_places + 4 * x, two_logits + 4 * c,
                                  two_places + 4 * x, stride, target, apart, count)  # fmt: skip
                    else:
                        read_tile(one_logits + 4 * c, one_places + 4 * x, stride,
                                  target, apart, count)  # fmt: skip
                    if not is_direct:
                        at = y * out_strides[1] + x * step + c * out_strides[0]
                        for channel in range(count):
                            for point in range(min(TILE, width)):
                                place = at + channel * out_strides[0] + point * step
                                out[place] = tile[channel, point]


@njit(**INNER)
def _place_row(
    way: Way, rows: Points, columns: Points, y: int, least_residual: float, places: Places
) -> None:
    """Where the points of row ``y`` lie in the key's grid, and what weight the key has there."""
    _block_line(way.field, way.rows, y, places.line)
    _spread_line(places.line, way.columns.low, way.columns.high, way.columns.share, places.moves)
    points = columns.position.size
    move_x, move_y = places.moves[0, :points], places.moves[1, :points]
    to_right = way.logits.shape[2]
    to_below = way.logits.shape[1] * to_right
    _place_along(move_x, columns.position, columns.least, columns.most, columns.scale,
                 columns.last, to_right, places.first, places.right, places.across)  # fmt: skip
    _place_across(move_y, rows.position[y], rows.least[y], rows.most[y], rows.scale,
                  rows.last, to_below, places.first, places.below, places.down)  # fmt: skip
    _weigh(places.moves[2, :points], way.nearness, least_residual, places.weight)


@njit(**INNER)
def _block_line(field: Floats, rows: Blocks, y: int, line: Doubles) -> None:
    """Displacement and residual of the blocks around a row of points, between both."""
    above, below, share = rows.low[y], rows.high[y], rows.share[y]
    for value in range(3):
        _mix_line(field[value, above], field[value, below], share, line[value])


@njit(**INNER)
def _mix_line(above: Floats, below: Floats, share: float, line: Doubles) -> None:
    for b in range(above.size):
        value = np.float64(above[b])
        line[b] = value + (below[b] - value) * share


@njit(**INNER)
def _spread_line(line: Doubles, low: Ints, high: Ints, share: Doubles, moves: Doubles) -> None:
    """The same at each point of the row, between the blocks on either side."""
    for x in range(low.size):
        i, j, part = low[x], high[x], share[x]
        for value in range(3):
            near = line[value, i]
            moves[value, x] = near + (line[value, j] - near) * part


@njit(**INNER)
def _place_along(
    moves: Doubles, position: Doubles, least: Doubles, most: Doubles, scale: float, last: float,
    step: int, first: NDArray[np.uint32], right: NDArray[np.uint32], across: Floats,
) -> None:  # fmt: skip
    for x in range(position.size):
        place = position[x] + scale * _inside(moves[x], least[x], most[x])
        place = min(max(place, 0.0), last)
        left = np.int32(place)
        first[x] = left * np.int32(step)
        right[x] = step if place < last else 0
        across[x] = place - left


@njit(**INNER)
def _place_across(
    moves: Doubles, position: float, least: float, most: float, scale: float, last: float,
    step: int, first: NDArray[np.uint32], below: NDArray[np.uint32], down: Floats,
) -> None:  # fmt: skip
    for x in range(moves.size):
        place = position + scale * _inside(moves[x], least, most)
        place = min(max(place, 0.0), last)
        top = np.int32(place)
        first[x] += np.uint32(top * np.int32(step))
        below[x] = step if place < last else 0
        down[x] = place - top


@njit(**INNER)
def _weigh(residuals: Doubles, nearness: float, least_residual: float, weight: Floats) -> None:
    for x in range(residuals.size):
        residual = residuals[x]
        residual = residual if residual > 0.0 else 0.0  # NaN is not
        residual = residual if residual < _MOST_LEVELS else _MOST_LEVELS
        weight[x] = nearness / (residual + least_residual)


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
