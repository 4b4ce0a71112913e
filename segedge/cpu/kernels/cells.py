"""Kernels on the logit grid: its argmax, its uniform cells, and who can win in the others.

Bilinear interpolation inside a cell is a convex combination of its corners, so a class that wins
at all four corners wins everywhere in the cell. In the other cells a class can win only if its
largest corner reaches the largest of the classes' smallest corners.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.simd import take_ticket
from segedge.cpu.kernels.tables import (
    FIRST,
    HUGE,
    INNER,
    KERNEL,
    Doubles,
    Floats,
    Ints,
    Logits,
    Longs,
    Scratch,
    Spans,
)

_ARGMAX_ROWS = 16


@njit(**KERNEL)
def argmax_grid(ticket: Longs, logits: Logits, labels: Ints, best: Floats) -> None:
    """Argmax at every grid point; the first of equal maxima, NaN never wins."""
    height = labels.shape[0]
    while True:
        first = take_ticket(ticket) * _ARGMAX_ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ARGMAX_ROWS, height)):
            _argmax_row(logits, y, labels[y], best)


@njit(**INNER)
def _argmax_row(logits: Logits, y: int, row: Ints, best: Floats) -> None:
    flat, strides, sigmoid = logits.flat, logits.strides, logits.sigmoid
    width = row.size
    best[:width] = np.float32(0.0) if sigmoid else np.float32(-np.inf)
    row[:] = 0
    for c in range(logits.channels):
        label = np.int32(c + 1) if sigmoid else np.int32(c)
        start = c * strides[0] + y * strides[1]
        if strides[2] == 1:
            plane = flat[start : start + width]
            for x in range(width):
                better = plane[x] > best[x]
                best[x] = plane[x] if better else best[x]
                row[x] = label if better else row[x]
        else:
            for x in range(width):
                value = flat[start + x * strides[2]]
                if value > best[x]:
                    best[x] = value
                    row[x] = label


@njit(**INNER)
def finite(value: float) -> float:
    """The value as float64; infinities and NaN are +-`HUGE`."""
    if -HUGE <= value <= HUGE:
        return value
    return HUGE if value > 0.0 else -HUGE


@njit(**INNER)
def read_corners(logits: Logits, rows: Any, columns: Any, corners: Doubles) -> int:
    """The classes' values at the corners of a cell, see `Scratch.corners`; how many classes."""
    flat, strides = logits.flat, logits.strides
    above, below = rows[0] * strides[1], rows[1] * strides[1]
    left, right = columns[0] * strides[2], columns[1] * strides[2]
    first = 0
    if logits.sigmoid:  # the background of a sigmoid head is a class with logit zero
        corners[0, :] = 0.0
        first = 1
    for c in range(logits.channels):
        start = c * strides[0]
        corners[first + c, 0] = finite(flat[start + above + left])
        corners[first + c, 1] = finite(flat[start + above + right])
        corners[first + c, 2] = finite(flat[start + below + left])
        corners[first + c, 3] = finite(flat[start + below + right])
    return first + logits.channels


@njit(**INNER)
def low_and_high(corners: Doubles, c: int) -> tuple[float, float]:
    """Smallest and largest corner of a class."""
    a, b, d, e = corners[c, 0], corners[c, 1], corners[c, 2], corners[c, 3]
    return min(min(a, b), min(d, e)), max(max(a, b), max(d, e))


@njit(**INNER)
def keep_contenders(
    corners: Doubles, classes: int, used: int, contender: Ints, values: Doubles
) -> int:
    """Append the classes that can win in a cell; return the new number of contenders."""
    floor = -np.inf
    for c in range(classes):
        floor = max(floor, low_and_high(corners, c)[0])
    for c in range(classes):
        if low_and_high(corners, c)[1] >= floor:
            contender[used] = c
            values[used, 0] = corners[c, 0]
            values[used, 1] = corners[c, 1]
            values[used, 2] = corners[c, 2]
            values[used, 3] = corners[c, 3]
            used += 1
    return used


@njit(**INNER)
def classify_cells(logits: Logits, labels: Ints, rows: Any, spans: Spans, scratch: Scratch) -> int:
    """Cut one row of cells into segments: uniform (merged with their equals) or mixed.

    Writes ``scratch.segments``, and what mixed ones need; returns their number.
    """
    segments, corners = scratch.segments, scratch.corners
    ends, low, high = spans.ends, spans.low, spans.high
    above, below = labels[rows[0]], labels[rows[1]]
    count = 0
    used = FIRST
    for span in range(ends.size):
        left, right = low[span], high[span]
        label = above[left]
        if above[right] == label and below[left] == label and below[right] == label:
            if count > 0 and segments[count - 1, 1] == label:
                segments[count - 1, 0] = ends[span]
                continue
            segments[count, 1] = label
        else:
            classes = read_corners(logits, rows, (left, right), corners)
            segments[count, 1] = -1
            segments[count, 2] = used
            used = keep_contenders(corners, classes, used, scratch.contender, scratch.values)
            segments[count, 3] = used
            segments[count, 4] = span
        segments[count, 0] = ends[span]
        count += 1
    return count
