"""Kernels of the matte: how far each frame pixel belongs to a foreground set of classes.

Where one class is the best of the foreground at all four corners of a cell, and one class the best
of the background, the margin between them is bilinear inside; most cells are so far on one side
that they are filled. Only in the others all classes are looked at, as in `confidence`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.cpu.kernels.cells import low_and_high, read_corners
from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.rows import byte_row
from segedge.cpu.kernels.simd import take_ticket
from segedge.cpu.kernels.tables import (
    FAST,
    HUGE,
    INNER,
    KERNEL,
    Doubles,
    Flags,
    Floats,
    Ints,
    Logits,
    Longs,
    Rows,
    Scratch,
    Spans,
)

_ROWS = 16
_CLEAR, _OPAQUE, _LINEAR, _MIXED = 0, 255, 256, 257
"""What is known of a cell; the first two are the opacity of all its pixels."""


@njit(**KERNEL)
def best_of_sets(
    ticket: Longs, logits: Logits, is_foreground: Flags, best: Floats, winner: Ints
) -> None:
    """Best logit and its class of both sets (background, foreground) at every grid point.

    The winner is -1 where a set has nothing above -`HUGE`.
    """
    flat, strides, height = logits.flat, logits.strides, best.shape[1]
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            best[:, y] = np.float32(-HUGE)
            winner[:, y] = np.int32(-1)
            if logits.sigmoid:
                side = np.int64(is_foreground[0])
                best[side, y] = np.float32(0.0)
                winner[side, y] = np.int32(0)
            for c in range(logits.channels):
                label = np.int32(c + 1) if logits.sigmoid else np.int32(c)
                side = np.int64(is_foreground[label])
                start = c * strides[0] + y * strides[1]
                _raise_row(flat, start, strides[2], label, best[side, y], winner[side, y])


@njit(**INNER)
def _raise_row(
    logits: Floats, start: int, step: int, label: int, best: Floats, winner: Ints
) -> None:
    huge = np.float32(HUGE)
    for x in range(best.size):
        value = logits[start + x * step]
        value = value if value < huge else (huge if value >= huge else -huge)  # NaN is the least
        better = value > best[x]
        best[x] = value if better else best[x]
        winner[x] = np.int32(label) if better else winner[x]


@njit(**FAST)
def opacity_run(margin: Floats, scale: float, out: Any) -> None:
    """Smoothstep of margins to 0..255; ``scale`` is 1 / (2 * edge)."""
    for i in range(out.size):
        t = margin[i] * np.float32(scale) + np.float32(0.5)
        t = min(max(t, np.float32(0.0)), np.float32(1.0))
        smooth = t * t * (np.float32(3.0) - np.float32(2.0) * t)
        out[i] = np.uint8(np.float32(255.0) * smooth + np.float32(0.5))


@njit(**INNER)
def _known(low: float, high: float, edge: float, otherwise: int) -> int:
    """What bounds of the margin say about a cell."""
    if low >= edge:
        return _OPAQUE
    return _CLEAR if high <= -edge else otherwise


@njit(**INNER)
def _classify(
    best: Floats, winner: Ints, rows: Any, columns: Any, edge: float, margins: Doubles
) -> int:
    """Margins at the corners of a cell, and what follows from them."""
    uniform = True
    low, high = np.inf, -np.inf
    for k in range(4):
        y, x = rows[k >> 1], columns[k & 1]
        margin = np.float64(best[1, y, x]) - np.float64(best[0, y, x])
        margins[k] = margin
        low, high = min(low, margin), max(high, margin)
        for side in range(2):
            uniform &= winner[side, y, x] == winner[side, rows[0], columns[0]]
    return _known(low, high, edge, _LINEAR) if uniform else _MIXED


@njit(**INNER)
def _keep_sets(
    corners: Doubles, classes: int, is_foreground: Flags, edge: float, contender: Ints
) -> tuple[int, int, int]:
    """Classes that can be the best of their set: the background's first.

    Returns what is known of the cell, the end of the background's and of all contenders.
    """
    low0, high0, low1, high1 = -HUGE, -HUGE, -HUGE, -HUGE
    for c in range(classes):
        least, most = low_and_high(corners, c)
        if is_foreground[c]:
            low1, high1 = max(low1, least), max(high1, most)
        else:
            low0, high0 = max(low0, least), max(high0, most)
    known = _known(low1 - high0, high1 - low0, edge, _MIXED)
    count, middle = 0, 0
    if known == _MIXED:
        for c in range(classes):
            if not is_foreground[c] and low_and_high(corners, c)[1] >= low0:
                contender[count] = c
                count += 1
        middle = count
        for c in range(classes):
            if is_foreground[c] and low_and_high(corners, c)[1] >= low1:
                contender[count] = c
                count += 1
    return known, middle, count


@njit(**FAST)
def _line_base(corners: Doubles, contender: Ints, count: int, weight: float) -> float:
    """The highest value of all contenders at both ends of a row of a cell.

    Relative to it, float32 is accurate where logits are large and their differences small.
    """
    base = -np.inf
    for k in range(count):
        v = corners[contender[k]]
        base = max(base, max(v[0] + (v[2] - v[0]) * weight, v[1] + (v[3] - v[1]) * weight))
    return base


@njit(**FAST)
def _line_of(v: Doubles, weight: float, base: float) -> tuple[Any, Any]:
    """Value at the left corner, relative to a base, and slope of one class along a row."""
    left = v[0] + (v[2] - v[0]) * weight
    return np.float32(left - base), np.float32(v[1] + (v[3] - v[1]) * weight - left)


@njit(**FAST)
def _best_line(
    corners: Doubles, contender: Ints, first: int, end: int, weight: float, base: float,
    t: Floats, out: Floats,
) -> None:  # fmt: skip
    """The highest of some classes' lines along a row, relative to a base."""
    out[: t.size] = np.float32(-HUGE)
    for k in range(first, end):
        start, slope = _line_of(corners[contender[k]], weight, base)
        for i in range(t.size):
            out[i] = max(out[i], start + slope * t[i])


@njit(**FAST)
def _mixed_run(
    corners: Doubles, contender: Ints, middle: int, count: int, weight: float, t: Floats,
    lines: Floats,
) -> None:  # fmt: skip
    """Margins of a row of a mixed cell into ``lines[0]``."""
    base = _line_base(corners, contender, count, weight)
    _best_line(corners, contender, 0, middle, weight, base, t, lines[1])
    _best_line(corners, contender, middle, count, weight, base, t, lines[0])
    for i in range(t.size):
        lines[0, i] -= lines[1, i]


@njit(**FAST)
def _linear_run(margins: Doubles, weight: float, t: Floats, out: Floats) -> None:
    left = margins[0] + (margins[2] - margins[0]) * weight
    right = margins[1] + (margins[3] - margins[1]) * weight
    start, slope = np.float32(left), np.float32(right - left)
    for i in range(t.size):
        out[i] = start + slope * t[i]


@njit(**INNER)
def _fill(out: Rows, top: int, bottom: int, start: int, end: int, value: int) -> None:
    for y in range(top, bottom):
        byte_row(out, y, end)[start:end] = np.uint8(value)


@njit(**KERNEL)
def render_matte(
    ticket: Longs,
    spans: Spans,
    logits: Logits,
    is_foreground: Flags,
    best: Floats,
    winner: Ints,
    edge: float,
    scratch: Scratch,
    out: Rows,
) -> None:
    """Opacity of every frame pixel, unit by unit until none is left; see `best_of_sets`."""
    units, row_weights, ends = spans.units, spans.row_weights, spans.ends
    low, high, weights = spans.low, spans.high, spans.singles
    corners, contender, lines = scratch.corners, scratch.contender, scratch.best
    margins = np.zeros(4)
    scale = 0.5 / edge
    while True:
        unit = take_ticket(ticket)
        if unit >= units.shape[0]:
            return
        top, bottom = np.int64(units[unit, 0]), np.int64(units[unit, 1])
        rows = (np.int64(units[unit, 2]), np.int64(units[unit, 3]))
        start, begin, pending = 0, 0, -1  # equal neighbours are filled at once
        for span in range(ends.size):
            end = np.int64(ends[span])
            columns = (np.int64(low[span]), np.int64(high[span]))
            known = _classify(best, winner, rows, columns, edge, margins)
            middle, count = 0, 0
            if known == _MIXED:
                classes = read_corners(logits, rows, columns, corners)
                known, middle, count = _keep_sets(corners, classes, is_foreground, edge, contender)
            if known != pending:
                if pending >= 0:
                    _fill(out, top, bottom, begin, start, pending)
                begin, pending = start, known if known <= _OPAQUE else -1
            if known > _OPAQUE:
                t = weights[start:end]
                for y in range(top, bottom):
                    if known == _LINEAR:
                        _linear_run(margins, row_weights[y], t, lines[0])
                    else:
                        _mixed_run(corners, contender, middle, count, row_weights[y], t, lines)
                    opacity_run(lines[0], scale, byte_row(out, y, end)[start:end])
            start = end
        if pending >= 0:
            _fill(out, top, bottom, begin, start, pending)


@njit(**KERNEL)
def look_up_matte(
    ticket: Longs, spans: Spans, columns: Ints, best: Floats, edge: float, line: Floats, out: Rows
) -> None:
    """Like `render_matte` where each pixel takes the value of one grid point."""
    units, width = spans.units, columns.size
    while True:
        unit = take_ticket(ticket)
        if unit >= units.shape[0]:
            return
        y = np.int64(units[unit, 2])
        for x in range(width):
            line[x] = best[1, y, columns[x]] - best[0, y, columns[x]]
        for row in range(units[unit, 0], units[unit, 1]):
            opacity_run(line, 0.5 / edge, byte_row(out, row, width))
