"""Kernels over label maps: drivable region, nearest obstacle a column, classes in a zone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segedge.cpu.kernels.cells import INNER, KERNEL
from segedge.cpu.regions.runs import root_of

_TILE = 64
"""Columns that are searched together: a cache line of a row, and few rows beyond the obstacles."""

Labels = NDArray[Any]
Table = NDArray[np.uint8]
Ints32 = NDArray[np.int32]
Longs64 = NDArray[np.int64]


@njit(**INNER)
def _unite(parent: Ints32, area: Longs64, a: int, b: int) -> None:
    a, b = root_of(parent, a), root_of(parent, b)
    if a == b:
        return
    if a > b:
        a, b = b, a
    parent[b] = a
    area[a] += area[b]


@njit(**INNER)
def _cut_row(row: Labels, wanted: Table, start: Ints32, end: Ints32, first: int) -> int:
    """Append the row's runs of wanted labels; returns the number of runs so far."""
    count = first
    width = row.size
    x = 0
    while x < width:
        label = row[x]
        begin = x
        x += 1
        while x < width and row[x] == label:
            x += 1
        if wanted[label] == 0:
            continue
        if count > first and end[count - 1] == begin:
            end[count - 1] = x
        else:
            start[count] = begin
            end[count] = x
            count += 1
    return count


@njit(**INNER)
def _join_rows(
    start: Ints32, end: Ints32, parent: Ints32, area: Longs64, above: int, first: int, last: int
) -> None:
    """Unite the runs ``first..last`` of a row with those of the row above that they touch."""
    upper = above
    for lower in range(first, last):
        while upper < first and end[upper] <= start[lower]:
            upper += 1
        touching = upper
        while touching < first and start[touching] < end[lower]:
            _unite(parent, area, touching, lower)
            touching += 1


@njit(**KERNEL)
def region_at_bottom(
    labels: Labels,
    wanted: Table,
    bottom: int,
    start: Ints32,
    end: Ints32,
    parent: Ints32,
    area: Longs64,
    mask: NDArray[np.uint8],
    left: Ints32,
    right: Ints32,
) -> int:
    """The largest 4-connected region of wanted labels that has a pixel in row ``bottom``.

    Args:
        labels: H x W class labels.
        wanted: 1 for each label that belongs to the region.
        bottom: The row that it must reach; rows below are not looked at.
        start: Scratch for H * (W + 1) // 2 runs, as are ``end``, ``parent`` and ``area``.
        end: Scratch.
        parent: Scratch.
        area: Scratch.
        mask: H x W of zeros; the region is set to 1.
        left: H, set to the region's first column, -1 where it has none.
        right: H, set to the region's last column, -1 where it has none.

    Returns:
        Its pixels; 0 where there is none. Of equally large ones the leftmost at the bottom counts.
    """
    count = above = first = 0
    row_first = np.empty(bottom + 2, np.int32)
    for y in range(bottom + 1):
        above, first = first, count
        row_first[y] = first
        count = _cut_row(labels[y], wanted, start, end, first)
        for run in range(first, count):
            parent[run] = run
            area[run] = end[run] - start[run]
        _join_rows(start, end, parent, area, above, first, count)
    row_first[bottom + 1] = count
    left[:] = -1
    right[:] = -1
    best, best_area = -1, 0
    for run in range(first, count):
        root = root_of(parent, run)
        if area[root] > best_area:
            best, best_area = root, area[root]
    if best < 0:
        return 0
    for y in range(bottom + 1):
        for run in range(row_first[y], row_first[y + 1]):
            if root_of(parent, run) != best:
                continue
            mask[y, start[run] : end[run]] = 1
            if left[y] < 0:
                left[y] = start[run]
            right[y] = end[run] - 1
    return int(best_area)


@njit(**KERNEL)
def nearest_obstacles(
    labels: Labels, wanted: Table, bottom: int, least: int, row: Ints32, label: Ints32
) -> None:
    """Of each column the first obstacle from the bottom.

    Args:
        labels: H x W class labels.
        wanted: 1 for each label that is an obstacle.
        bottom: The row to begin at, upwards.
        least: How many obstacle pixels must stand upon each other.
        row: W, set to the lowest row of the obstacle, -1 where there is none.
        label: W, set to the label in that row, -1 where there is none.
    """
    width = labels.shape[1]
    streak = np.empty(_TILE, np.int32)
    for begin in range(0, width, _TILE):
        end = min(begin + _TILE, width)
        streak[:] = 0
        row[begin:end] = -1
        label[begin:end] = -1
        missing = end - begin
        for y in range(bottom, -1, -1):
            for x in range(begin, end):
                if wanted[labels[y, x]] == 0:
                    streak[x - begin] = 0
                elif row[x] < 0:
                    streak[x - begin] += 1
                    if streak[x - begin] == least:
                        row[x] = y + least - 1
                        label[x] = labels[y + least - 1, x]
                        missing -= 1
            if missing == 0:
                break


@njit(**KERNEL)
def count_in_spans(labels: Labels, spans: Ints32, counts: Longs64) -> None:
    """Add up the labels of spans of pixels.

    Args:
        labels: H x W class labels.
        spans: N x 3: row, first column, column behind the last.
        counts: A counter a label, added to.
    """
    for n in range(spans.shape[0]):
        line = labels[spans[n, 0]]
        x, end = spans[n, 1], spans[n, 2]
        while x < end:
            value = line[x]
            begin = x
            x += 1
            while x < end and line[x] == value:
                x += 1
            counts[value] += x - begin
