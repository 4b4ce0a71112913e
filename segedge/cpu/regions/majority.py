"""Kernel of the majority filter: the most frequent label of the window around each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.simd import take_ticket
from segedge.cpu.kernels.tables import INNER, KERNEL, Bytes, Ints, Longs


@njit(**INNER)
def _mark_columns(labels: Any, y: int, first: int, end: int, is_even: Bytes) -> None:
    """Which columns of a band of rows hold one label throughout."""
    row = labels[y]
    is_even[:] = 1
    for other in range(first, end):
        there = labels[other]
        for x in range(row.size):
            is_even[x] &= np.uint8(there[x] == row[x])


@njit(**INNER)
def _most_frequent(labels: Any, y0: int, y1: int, x0: int, x1: int, own: int, counts: Ints) -> int:
    """The window's most frequent label; ``counts`` is all zero before and after."""
    for y in range(y0, y1):
        for x in range(x0, x1):
            counts[labels[y, x]] += 1
    best, most = own, np.int64(counts[own])
    for y in range(y0, y1):
        for x in range(x0, x1):
            label = np.int64(labels[y, x])
            if counts[label] > most or (counts[label] == most and label < best and best != own):
                best, most = label, np.int64(counts[label])
    for y in range(y0, y1):
        for x in range(x0, x1):
            counts[labels[y, x]] = 0
    return best


@njit(**KERNEL)
def filter_bands(
    ticket: Longs,
    bands: Ints,
    labels: Any,
    out: Any,
    reach: int,
    is_even: Bytes,
    counts: Ints,
) -> None:
    """Filter bands of rows until none is left.

    Windows of one label, nearly all in a street scene, are found by columns and not counted.
    ``reach`` is from a window's middle to its border; scratch of this thread: ``is_even``, one a
    column, and ``counts``, one a possible label, all zero.
    """
    height, width = labels.shape
    while True:
        band = take_ticket(ticket)
        if band >= bands.shape[0]:
            return
        for y in range(bands[band, 0], bands[band, 1]):
            y0, y1 = max(y - reach, 0), min(y + reach + 1, height)
            _mark_columns(labels, y, y0, y1, is_even)
            row, streak = labels[y], 0
            right = 0  # the first column that `streak` does not cover
            for x in range(width):
                x0, x1 = max(x - reach, 0), min(x + reach + 1, width)
                while right < x1:
                    follows = streak > 0 and row[right] == row[right - 1]
                    streak = (streak + 1 if follows else 1) if is_even[right] != 0 else 0
                    right += 1
                if streak >= x1 - x0:
                    out[y, x] = row[x]
                else:
                    out[y, x] = _most_frequent(labels, y0, y1, x0, x1, np.int64(row[x]), counts)
