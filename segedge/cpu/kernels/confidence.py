"""Kernel of how sure a network is: softmax probability of the winner, top-2 margin, or entropy."""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.cpu.kernels.cells import low_and_high, read_corners
from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.rows import float_row
from segedge.cpu.kernels.simd import float_of_bits, take_ticket
from segedge.cpu.kernels.tables import (
    ENTROPY,
    FAST,
    INNER,
    KERNEL,
    MARGIN,
    PROBABILITY,
    Doubles,
    Floats,
    Ints,
    Logits,
    Longs,
    Rows,
    Scratch,
    Spans,
)

_ERROR = 1e-5
"""What the classes that are left out may add to the softmax sum, all together. Their part of the
entropy is then below 2e-4 nats."""


@njit(**FAST)
def exp_negative(x: Any) -> Any:
    """``exp(x)`` for x <= 0 in float32, relative error below 3e-7; vectorises.

    2**n by exponent bits and 2**f, -0.5 <= f <= 0.5, by the degree-6 Taylor series of exp.
    """
    scaled = max(x * np.float32(1.4426950408889634), np.float32(-126.0))
    whole = np.floor(scaled + np.float32(0.5))
    r = (scaled - whole) * np.float32(0.6931471805599453)
    p = np.float32(1.0 / 720.0)
    p = p * r + np.float32(1.0 / 120.0)
    p = p * r + np.float32(1.0 / 24.0)
    p = p * r + np.float32(1.0 / 6.0)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    power: float = float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))
    return p * power


@njit(**INNER)
def _keep_relevant(corners: Doubles, classes: int, is_margin: bool, contender: Ints) -> int:
    """Classes that matter inside a cell; for a margin at least two where there are two."""
    first, second = -np.inf, -np.inf
    for c in range(classes):
        low = low_and_high(corners, c)[0]
        if low > first:
            first, second = low, first
        elif low > second:
            second = low
    floor = second if is_margin else first + np.log(_ERROR / classes)
    count = 0
    for c in range(classes):
        if low_and_high(corners, c)[1] >= floor:
            contender[count] = c
            count += 1
    return count


@njit(**FAST)
def line_base(corners: Doubles, contender: Ints, count: int, weight: float) -> float:
    """The highest value of all contenders at both ends of a row of a cell.

    Relative to it, float32 is accurate where logits are large and their differences small.
    """
    base = -np.inf
    for k in range(count):
        v = corners[contender[k]]
        base = max(base, max(v[0] + (v[2] - v[0]) * weight, v[1] + (v[3] - v[1]) * weight))
    return base


@njit(**FAST)
def line_of(v: Doubles, weight: float, base: float) -> tuple[Any, Any]:
    """Value at the left corner, relative to a base, and slope of one class along a row."""
    left = v[0] + (v[2] - v[0]) * weight
    return np.float32(left - base), np.float32(v[1] + (v[3] - v[1]) * weight - left)


@njit(**FAST)
def _set_lines(corners: Doubles, contender: Ints, count: int, weight: float, lines: Floats) -> None:
    base = line_base(corners, contender, count, weight)
    for k in range(count):
        lines[k, 0], lines[k, 1] = line_of(corners[contender[k]], weight, base)


@njit(**FAST)
def _probability_run(lines: Floats, count: int, t: Floats, best: Floats, out: Floats) -> None:
    size = t.size
    for i in range(size):
        best[i] = lines[0, 0] + lines[0, 1] * t[i]
        out[i] = 0.0
    for k in range(1, count):
        left, slope = lines[k, 0], lines[k, 1]
        for i in range(size):
            best[i] = max(best[i], left + slope * t[i])
    for k in range(count):
        left, slope = lines[k, 0], lines[k, 1]
        for i in range(size):
            out[i] += exp_negative(min(left + slope * t[i] - best[i], np.float32(0.0)))
    for i in range(size):
        out[i] = np.float32(1.0) / out[i]


@njit(**FAST)
def _margin_run(lines: Floats, count: int, t: Floats, best: Floats, out: Floats) -> None:
    size = t.size
    for i in range(size):
        best[i] = lines[0, 0] + lines[0, 1] * t[i]
        out[i] = -np.inf  # the runner-up until the end
    for k in range(1, count):
        left, slope = lines[k, 0], lines[k, 1]
        for i in range(size):
            value = left + slope * t[i]
            out[i] = max(out[i], min(best[i], value))
            best[i] = max(best[i], value)
    for i in range(size):
        out[i] = best[i] - out[i]


@njit(**FAST)
def _entropy_run(
    lines: Floats, count: int, t: Floats, scale: float, scratch: Floats, out: Floats
) -> None:
    """log(sum) - mean logit, both relative to the best one, over a row of a cell."""
    size = t.size
    best, total, mean = scratch[0], scratch[1], scratch[2]
    best[:size] = np.float32(-1e30)
    total[:size] = np.float32(0.0)
    mean[:size] = np.float32(0.0)
    for k in range(count):
        start, slope = lines[k, 0], lines[k, 1]
        for i in range(size):
            best[i] = max(best[i], start + slope * t[i])
    for k in range(count):
        start, slope = lines[k, 0], lines[k, 1]
        for i in range(size):
            below = min(start + slope * t[i] - best[i], np.float32(0.0))
            below = max(below, np.float32(-80.0))
            share = exp_negative(below)
            total[i] += share
            mean[i] += share * below
    for i in range(size):
        out[i] = (np.log(total[i]) - mean[i] / total[i]) * np.float32(scale)


@njit(**KERNEL)
def render_confidence(
    ticket: Longs, spans: Spans, logits: Logits, scratch: Scratch, kind: int, out: Rows
) -> None:
    """One of the three by bilinear interpolation of the relevant classes, until no unit is left.

    Entropy is that of all classes over that of equal ones, 0..1.
    """
    units, row_weights, ends = spans.units, spans.row_weights, spans.ends
    low, high, weights = spans.low, spans.high, spans.singles
    corners, contender, lines = scratch.corners, scratch.contender, scratch.singles
    best = scratch.best
    certain = np.float32(0.0) if kind == ENTROPY else np.float32(1.0)
    while True:
        unit = take_ticket(ticket)
        if unit >= units.shape[0]:
            return
        rows = (np.int64(units[unit, 2]), np.int64(units[unit, 3]))
        start = 0
        for span in range(ends.size):
            end = np.int64(ends[span])
            columns = (low[span], high[span])
            classes = read_corners(logits, rows, columns, corners)
            count = _keep_relevant(corners, classes, kind == MARGIN, contender)
            scale = 1.0 / np.log(classes) if classes > 1 else 0.0
            t = weights[start:end]
            for y in range(units[unit, 0], units[unit, 1]):
                row = float_row(out, y, weights.size)[start:end]
                if count == 1:
                    row[:] = certain
                    continue
                _set_lines(corners, contender, count, row_weights[y], lines)
                if kind == PROBABILITY:
                    _probability_run(lines, count, t, best[0], row)
                elif kind == MARGIN:
                    _margin_run(lines, count, t, best[0], row)
                else:
                    _entropy_run(lines, count, t, scale, best, row)
            start = end
