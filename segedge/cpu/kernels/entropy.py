"""Kernel for per-pixel entropy of the interpolated logits' softmax."""

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
from segedge.cpu.kernels.confidence import exp_negative
from segedge.cpu.kernels.simd import pointer_f32, take_ticket

_FAST: dict[str, Any] = {**INNER, "fastmath": {"contract", "nsz"}}
_ERROR = 1e-5
"""What the classes that are left out may add to the softmax sum, all together. Their part of the
entropy is then below 2e-4 nats."""


@njit(**INNER)
def _keep_relevant(corners: Doubles, classes: int, contender: Ints) -> int:
    """Classes that matter to the entropy inside a cell."""
    best = -np.inf
    for c in range(classes):
        best = max(best, low_and_high(corners, c)[0])
    floor = best + np.log(_ERROR / classes)
    count = 0
    for c in range(classes):
        if low_and_high(corners, c)[1] >= floor:
            contender[count] = c
            count += 1
    return count


@njit(**_FAST)
def _entropy_run(
    corners: Doubles,
    contender: Ints,
    count: int,
    weight: float,
    t: Floats,
    lines: Floats,
    scale: float,
    out: Floats,
) -> None:
    """log(sum) - mean logit, both relative to the best one, over a row of a cell."""
    size = t.size
    base = -np.inf
    for k in range(count):
        v = corners[contender[k]]
        base = max(base, max(v[0] + (v[2] - v[0]) * weight, v[1] + (v[3] - v[1]) * weight))
    best, total, mean = lines[0], lines[1], lines[2]
    best[:size] = np.float32(-1e30)
    total[:size] = np.float32(0.0)
    mean[:size] = np.float32(0.0)
    for step in range(2):
        for k in range(count):
            v = corners[contender[k]]
            left = v[0] + (v[2] - v[0]) * weight
            slope = np.float32(v[1] + (v[3] - v[1]) * weight - left)
            start = np.float32(left - base)
            if step == 0:
                for i in range(size):
                    best[i] = max(best[i], start + slope * t[i])
            else:
                for i in range(size):
                    below = min(start + slope * t[i] - best[i], np.float32(0.0))
                    below = max(below, np.float32(-80.0))
                    share = exp_negative(below)
                    total[i] += share
                    mean[i] += share * below
    for i in range(size):
        out[i] = (np.log(total[i]) - mean[i] / total[i]) * np.float32(scale)


@njit(**KERNEL)
def render_entropy(
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
    out: int,
    out_stride: int,
) -> None:
    """Entropy over that of equal classes, 0..1, unit by unit until none is left.

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
            count = _keep_relevant(corners, classes, contender)
            scale = 1.0 / np.log(classes) if classes > 1 else 0.0
            for y in range(units[unit, 0], units[unit, 1]):
                row = carray(pointer_f32(out + y * out_stride), (width,))
                if count == 1:
                    row[start:end] = np.float32(0.0)
                    continue
                _entropy_run(
                    corners, contender, count, row_weights[y], column_weights[start:end], lines,
                    scale, row[start:end],
                )  # fmt: skip
            start = end
