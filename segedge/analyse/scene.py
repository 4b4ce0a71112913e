"""Numba kernels over label maps: drivable region, nearest obstacle a column, classes in a zone."""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.tables import INNER, KERNEL, Bytes, Ints, Longs

_TILE = 64
"""Columns that are searched together: a cache line of a row, and few rows beyond the obstacles."""


# Not the one of `segedge.cpu`: Numba does not see when a function of another file is edited.
@njit(**INNER)
def _root_of(parents: Ints, run: int) -> int:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = np.int64(parents[run])
    return run


@njit(**INNER)
def _unite(parent: Ints, area: Longs, a: int, b: int) -> None:
    a, b = _root_of(parent, a), _root_of(parent, b)
    if a == b:
        return
    if a > b:
        a, b = b, a
    parent[b] = a
    area[a] += area[b]


@njit(**INNER)
def _cut_row(row: Any, wanted: Bytes, start: Ints, end: Ints, first: int) -> int:
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
    start: Ints, end: Ints, parent: Ints, area: Longs, above: int, first: int, last: int
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
    labels: Any,
    wanted: Bytes,
    bottom: int,
    start: Ints,
    end: Ints,
    parent: Ints,
    area: Longs,
    mask: Bytes,
    left: Ints,
    right: Ints,
) -> int:
    """The largest 4-connected region of wanted labels that has a pixel in row ``bottom``.

    Rows below are not looked at. ``mask``, H x W of zeros, is set to 1 there, ``left`` and
    ``right`` to its first and last column in each row, -1 where it has none. ``start``, ``end``,
    ``parent`` and ``area`` are scratch for H * (W + 1) // 2 runs.

    Gives its pixels, or 0; of equally large ones the leftmost at the bottom counts.
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
        root = _root_of(parent, run)
        if area[root] > best_area:
            best, best_area = root, area[root]
    if best < 0:
        return 0
    for y in range(bottom + 1):
        for run in range(row_first[y], row_first[y + 1]):
            if _root_of(parent, run) != best:
                continue
            mask[y, start[run] : end[run]] = 1
            if left[y] < 0:
                left[y] = start[run]
            right[y] = end[run] - 1
    return int(best_area)


@njit(**KERNEL)
def nearest_obstacles(
    labels: Any, wanted: Bytes, bottom: int, least: int, row: Ints, label: Ints
) -> None:
    """Of each column the first obstacle from row ``bottom`` upwards.

    ``least`` pixels of wanted labels must stand upon each other. ``row`` and ``label``, W each, are
    set to the obstacle's lowest row and the label there, -1 where there is none.
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
def count_in_spans(labels: Any, spans: Ints, counts: Longs) -> None:
    """Add the labels of spans of pixels (row, first column, column behind) to a counter a label."""
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
