"""Kernel for per-pixel confidence: softmax probability of the winner, or top-2 margin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from segedge.cpu.kernels.cells import (
    INNER,
    KERNEL,
    Doubles,
    Floats,
    Ints,
    Longs,
    low_and_high,
    read_corners,
)
from segedge.cpu.kernels.simd import float_of_bits, pointer_f32, take_ticket

_ERROR = 1e-5
"""What the classes that are left out may add to the softmax sum, all together."""

_FAST: dict[str, Any] = {**INNER, "fastmath": {"contract", "nsz"}}


@njit(**_FAST)
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
def _keep_relevant(corners: Doubles, classes: int, probability: bool, contender: Ints) -> int:
    """Classes that matter to the confidence inside a cell; at least two where there are two."""
    first, second = -np.inf, -np.inf
    for c in range(classes):
        low = low_and_high(corners, c)[0]
        if low > first:
            first, second = low, first
        elif low > second:
            second = low
    floor = first + np.log(_ERROR / classes) if probability else second
    count = 0
    for c in range(classes):
        if low_and_high(corners, c)[1] >= floor:
            contender[count] = c
            count += 1
    return count


@njit(**_FAST)
def _set_lines(corners: Doubles, contender: Ints, count: int, weight: float, lines: Floats) -> None:
    """Each contender's value at the left corner and slope, relative to a common base.

    The base keeps float32 accurate where logits are large and their differences small.
    """
    base = -np.inf
    for k in range(count):
        v = corners[contender[k]]
        base = max(base, max(v[0] + (v[2] - v[0]) * weight, v[1] + (v[3] - v[1]) * weight))
    for k in range(count):
        v = corners[contender[k]]
        left = v[0] + (v[2] - v[0]) * weight
        lines[k, 0] = np.float32(left - base)
        lines[k, 1] = np.float32(v[1] + (v[3] - v[1]) * weight - left)


@njit(**_FAST)
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


@njit(**_FAST)
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


@njit(**KERNEL)
def render_confidence(
    ticket: NDArray[np.int64],
    units: Ints,
    row_weights: Doubles,
    column_end: Ints,
    column_low: Ints,
    column_high: Ints,
    column_weights: Floats,
    logits: Floats,
    strides: Longs,
    channels: int,
    sigmoid: bool,
    contender: Ints,
    corners: Doubles,
    lines: Floats,
    best: Floats,
    probability: bool,
    out: int,
    out_stride: int,
) -> None:
    """Confidence by bilinear interpolation of the relevant classes, until no unit is left.

    Tables are those of `plan`; ``out`` addresses float32 rows, ``out_stride`` bytes apart.
    """
    width = column_weights.size
    while True:
        unit = take_ticket(ticket)
        if unit >= units.shape[0]:
            return
        rows = (np.int64(units[unit, 2]), np.int64(units[unit, 3]))
        start = 0
        for span in range(column_end.size):
            end = np.int64(column_end[span])
            columns = (column_low[span], column_high[span])
            classes = read_corners(logits, strides, channels, sigmoid, rows, columns, corners)
            count = _keep_relevant(corners, classes, probability, contender)
            for y in range(units[unit, 0], units[unit, 1]):
                row = carray(pointer_f32(out + y * out_stride), (width,))
                if count == 1:
                    row[start:end] = 1.0
                    continue
                _set_lines(corners, contender, count, row_weights[y], lines)
                t = column_weights[start:end]
                if probability:
                    _probability_run(lines, count, t, best, row[start:end])
                else:
                    _margin_run(lines, count, t, best, row[start:end])
            start = end
