"""Kernel of how sure a network is: softmax probability of the winner, top-2 margin, or entropy.

All three stay as they are when the same number is taken off all classes of a grid point: here the
highest of the point. Inside a cell the logits are linear from row to row, so their powers grow by
the same factor each time: two exponentials a class and pixel of a cell do for all of its rows.
"""

from __future__ import annotations

import numpy as np

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.rows import float_row
from segedge.cpu.kernels.simd import (
    begin_powers,
    entropy_row,
    lay_line,
    margin_row,
    powers_row,
    probability_row,
    take_ticket,
)
from segedge.cpu.kernels.tables import (
    BLOCK,
    ENTROPY,
    HUGE,
    INNER,
    KERNEL,
    LEAST,
    LEAST_ODDS,
    LINE_BYTES,
    MARGIN,
    PROBABILITIES,
    PROBABILITY,
    SHARES,
    WIDE,
    Doubles,
    Floats,
    Ints,
    Logits,
    Longs,
    Rows,
    Spans,
    Sureness,
)

_ERROR = 1e-5
"""What the classes that are left out may add to the softmax sum, all together. Their part of the
entropy is then below 2e-4 nats."""
_DEEPEST = np.float32(-115.0)
"""Powers of two of lower ones would leave float32 on their way to rows where they count."""
_EVEN = 1e-9
_LOG2_E = np.log2(np.e)
_LOW, _HIGH = np.float32(-HUGE), np.float32(HUGE)
_LEAST, _LEAST_ODDS = np.float32(LEAST), np.float32(LEAST_ODDS)
_HALF = np.float32(0.5)


@njit(**KERNEL)
def render_confidence(
    ticket: Longs, spans: Spans, logits: Logits, own: Sureness, kind: int, holds: int, out: Rows,
    sums: Doubles,
) -> None:  # fmt: skip
    """One of the three by bilinear interpolation of the relevant classes, until no unit is left.

    Of what the output ``holds`` logarithms are taken where it is no logits.
    Entropy is that of all classes over that of equal ones, 0..1. Rows without an address are not
    written; ``sums`` gets what each unit amounts to.
    """
    units, width = spans.units, spans.singles.size
    own.weights[:width] = spans.singles
    lead = own.lead[1 if kind == MARGIN else 0]
    spare = 0.0 if kind == MARGIN else np.log2(_ERROR / own.most.shape[0])
    scale = np.float32(1.0 if kind == MARGIN else _LOG2_E)
    certain = np.float32(0.0 if kind == ENTROPY else 1.0)
    while True:
        unit = take_ticket(ticket)
        if unit >= units.shape[0]:
            return
        _relate(logits, np.int64(units[unit, 2]), np.int64(units[unit, 3]), scale, holds, own)
        is_even = kind == PROBABILITY and _is_even(spans.row_weights, units[unit])
        total = 0.0
        span = np.int64(0)
        for first in range(0, width, WIDE):
            end = min(first + WIDE, width)
            cells, span = _find_cells(spans, span, first, end, own.cells)
            left, right = own.cells[0, 1] // 4, np.int64(spans.high[span])
            floor = np.min(lead[left : max(left + 1, right)]) + spare
            count, is_shallow = _lay(own, cells, left, right, first, floor)
            if count == 1:
                total += _fill(spans, unit, first, end, certain, out)
            else:
                goes_on = is_even and is_shallow
                total += _work_out(spans, unit, first, end, own, count, goes_on, kind, out)
        sums[unit] = total


@njit(**INNER)
def _find_cells(spans: Spans, span: int, first: int, end: int, cells: Longs) -> tuple[int, int]:
    """The cells of some pixels as `softmax.lay_line` wants them; how many, and the last span."""
    ends, low = spans.ends, spans.low
    x, count = first, 0
    while True:
        stop = min(np.int64(ends[span]), end)
        while x < stop:
            cells[count, 0], cells[count, 1] = 4 * (x - first), 4 * low[span]
            count += 1
            x += BLOCK
        x = stop
        if stop == end:
            return count, span
        span += 1


@njit(**INNER)
def _relate(
    logits: Logits, above: int, below: int, scale: float, holds: int, own: Sureness
) -> None:
    """Two grid rows of all classes, relative to the best, and what is to be known of them."""
    best, second = own.lead[0], own.lead[1]
    _copy_row(logits, above, scale, holds, own.rows[0], best)
    _copy_row(logits, below, scale, holds, own.rows[2], best)
    best[:] = -np.inf
    second[:] = -np.inf
    for c in range(own.most.shape[0]):
        upper, lower, most, least = own.rows[0, c], own.rows[2, c], own.most[c], own.least[c]
        for x in range(best.size):
            most[x] = max(upper[x], lower[x])
            least[x] = min(upper[x], lower[x])
            lower[x] -= upper[x]
        _lead(least, best, second)
        _slope(upper, own.rows[1, c])
        _slope(lower, own.rows[3, c])


@njit(**INNER)
def _slope(values: Floats, out: Floats) -> None:
    """To the next one; the last point's pixels have no share of another."""
    for x in range(values.size - 1):
        out[x] = values[x + 1] - values[x]
    out[values.size - 1] = np.float32(0.0)


@njit(**INNER)
def _lead(least: Floats, best: Floats, second: Floats) -> None:
    """A class's turn in `Sureness.lead`; the last column is a cell of its own."""
    last = best.size - 1
    for x in range(last):
        lowest = min(least[x], least[x + 1])
        second[x] = max(second[x], min(best[x], lowest))
        best[x] = max(best[x], lowest)
    second[last] = max(second[last], min(best[last], least[last]))
    best[last] = max(best[last], least[last])


@njit(**INNER)
def _copy_row(logits: Logits, y: int, scale: float, holds: int, rows: Floats, best: Floats) -> None:
    """All classes of a grid row, finite, relative to the best, times a scale.

    The background of a sigmoid head is a class with logit zero.
    """
    flat, strides = logits.flat, logits.strides
    first = 0
    if logits.sigmoid:
        rows[0, :] = np.float32(0.0)
        first = 1
    for c in range(logits.channels):
        start = c * strides[0] + y * strides[1]
        line = rows[first + c]
        if strides[2] == 1:
            values = flat[start : start + line.size]
            for x in range(line.size):
                line[x] = _finite(values[x])
        else:
            for x in range(line.size):
                line[x] = _finite(flat[start + x * strides[2]])
        if holds == PROBABILITIES:
            for x in range(line.size):
                line[x] = np.log(max(line[x], _LEAST))
        elif holds == SHARES:
            for x in range(line.size):
                share, other = max(_HALF + line[x], _LEAST_ODDS), max(_HALF - line[x], _LEAST_ODDS)
                line[x] = np.log(share) - np.log(other)
    best[:] = rows[0]
    for c in range(1, rows.shape[0]):
        line = rows[c]
        for x in range(best.size):
            best[x] = max(best[x], line[x])
    for c in range(rows.shape[0]):
        line = rows[c]
        for x in range(best.size):
            line[x] = (line[x] - best[x]) * scale


@njit(**INNER)
def _finite(value: float) -> float:
    """The value within +-`HUGE`; NaN is the lowest."""
    value = value if value > _LOW else _LOW
    return value if value < _HIGH else _HIGH


@njit(**INNER)
def _lay(
    own: Sureness, cells: int, left: int, right: int, first: int, floor: float
) -> tuple[int, bool]:
    """Lines of the classes that reach a floor somewhere in the cells of `WIDE` pixels.

    How many, and whether `_DEEPEST` is above none of their corners.
    """
    count, deepest = 0, np.float32(0.0)
    line, weights = own.lines.ctypes.data, own.weights.ctypes.data + 4 * first
    points, plane = own.rows.ctypes.data, 4 * own.most.size
    for c in range(own.most.shape[0]):
        most, least = own.most[c, left], own.least[c, left]
        for x in range(left + 1, right + 1):
            most = max(most, own.most[c, x])
            least = min(least, own.least[c, x])
        if most >= floor:
            deepest = min(deepest, least)
            lay_line(line, own.cells.ctypes.data, cells, points, plane, weights)
            line += LINE_BYTES
            count += 1
        points += 4 * own.most.shape[1]
    return count, deepest >= _DEEPEST


@njit(**INNER)
def _fill(spans: Spans, unit: int, first: int, end: int, value: float, out: Rows) -> float:
    top, bottom = spans.units[unit, 0], spans.units[unit, 1]
    if out[0] != 0:
        for y in range(top, bottom):
            float_row(out, y, end)[first:end] = value
    area: float = np.float64((bottom - top) * (end - first))
    return value * area


@njit(**INNER)
def _work_out(
    spans: Spans, unit: int, first: int, end: int, own: Sureness, count: int, goes_on: bool,
    kind: int, out: Rows,
) -> float:  # fmt: skip
    """The rows of `WIDE` pixels; their sum."""
    top, bottom = spans.units[unit, 0], spans.units[unit, 1]
    row_weights, results = spans.row_weights, own.results
    lines, row = own.lines.ctypes.data, results.ctypes.data
    results[1, :] = np.float32(0.0)
    if goes_on:
        weight = np.float32(row_weights[top])
        step = np.float32(row_weights[top + 1] - row_weights[top])
        for k in range(count):
            begin_powers(lines + k * LINE_BYTES, weight, step)
    for y in range(top, bottom):
        weight = np.float32(row_weights[y])
        if goes_on:
            powers_row(lines, count, row)
        elif kind == PROBABILITY:
            probability_row(lines, count, weight, row)
        elif kind == MARGIN:
            margin_row(lines, count, weight, row)
        else:
            entropy_row(lines, count, weight, np.float32(1.0 / np.log2(own.most.shape[0])), row)
        if out[0] != 0:
            target = float_row(out, y, end)
            for x in range(first, end):
                target[x] = results[0, x - first]
    total = 0.0
    for x in range(end - first):
        total += np.float64(results[1, x])
    return total


@njit(**INNER)
def _is_even(weights: Doubles, unit: Ints) -> bool:
    """Whether a unit's rows lie equally far apart, and are so many that it pays."""
    top, bottom = unit[0], unit[1]
    if bottom - top < 3:
        return False
    step = weights[top + 1] - weights[top]
    for y in range(top + 2, bottom):
        if abs(weights[y] - weights[top] - (y - top) * step) > _EVEN:
            return False
    return True
