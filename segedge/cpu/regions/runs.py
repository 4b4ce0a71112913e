"""Kernels that cut a label map into runs and put the runs of one region together.

A *run* is a longest stretch of equal labels within a row. Its number grows along the rows and down
the map, with gaps between bands of rows: those of a band start at its first row times the width.
So bands are cut side by side, and the lowest number of a region is the run of its first pixel.
(With a gap after each row, rows would lie powers of two apart and push each other out of the
cache.) Two passes over the map's bytes, everything else over its runs (He, Chao & Suzuki, "A
run-based two-scan labeling algorithm", 2008).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from segedge.cpu.kernels.compiled import carray, njit
from segedge.cpu.kernels.runs import append_run
from segedge.cpu.kernels.simd import first_one, load_u64, pointer_u8, take_ticket
from segedge.cpu.kernels.tables import INNER, KERNEL, Ints, Longs, Rows, Shorts, table


@table
class Runs(NamedTuple):
    """The runs of a label map; all but the last two are indexed by a run's number."""

    ends: Ints
    """Column after each run."""
    labels: Shorts
    """Label of each run."""
    parents: Ints
    """A lower run of the same region, or the run itself; once flattened the region's first run."""
    areas: Ints
    """Pixels of each region, at its first run."""
    row_starts: Ints
    """Number of the first run of each row."""
    row_ends: Ints
    """Number after the last run of each row."""


@njit(**INNER)
def _run_end(row: int, x: int, width: int, label_bytes: int, label: int) -> int:
    """Where the run that starts at ``x`` ends, eight bytes at a time."""
    size = width * label_bytes
    at = x * label_bytes
    repeated = np.uint64(0x0101010101010101) if label_bytes == 1 else np.uint64(0x0001000100010001)
    pattern = np.uint64(label) * repeated
    while at + 8 <= size:
        different = load_u64(row + at) ^ pattern
        if different != np.uint64(0):
            equal: int = first_one(different) >> 3
            return (at + equal) // label_bytes
        at += 8
    bytes_in = carray(pointer_u8(row), (size,))
    while at < size:
        found = np.int64(bytes_in[at])
        if label_bytes == 2:
            found |= np.int64(bytes_in[at + 1]) << 8
        if found != label:
            break
        at += label_bytes
    return at // label_bytes


@njit(**INNER)
def _cut_row(row: int, width: int, label_bytes: int, first: int, runs: Runs) -> int:
    """Runs of one row from number ``first`` on; returns the number after the last."""
    bytes_in = carray(pointer_u8(row), (width * label_bytes,))
    run = first
    x = 0
    while x < width:
        label = np.int64(bytes_in[x * label_bytes])
        if label_bytes == 2:
            label |= np.int64(bytes_in[2 * x + 1]) << 8
        x = _run_end(row, x, width, label_bytes, label)
        runs.ends[run] = x
        runs.labels[run] = label
        runs.parents[run] = run
        run += 1
    return run


@njit(**INNER)
def root_of(parents: Ints, run: int) -> int:
    """The lowest run known to be of the same region; shortens the way for the next time."""
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = np.int64(parents[run])
    return run


@njit(**INNER)
def unite(parents: Ints, a: int, b: int) -> None:
    """Make two runs one region."""
    a, b = root_of(parents, a), root_of(parents, b)
    if a < b:
        parents[b] = a
    elif b < a:
        parents[a] = b


@njit(**INNER)
def unite_rows(above: int, above_end: int, run: int, run_end: int, reach: int, runs: Runs) -> None:
    """Unite equal runs of two rows that touch; ``reach`` is 1 where corners count, else 0."""
    ends, labels = runs.ends, runs.labels
    start = 0
    for i in range(run, run_end):
        end = np.int64(ends[i])
        while above < above_end and ends[above] + reach <= start:
            above += 1
        k = above
        while k < above_end:
            if labels[k] == labels[i]:
                unite(runs.parents, k, i)
            if ends[k] >= end + reach:  # the next one starts beyond
                break
            k += 1
        start = end


@njit(**KERNEL)
def cut_bands(
    ticket: Longs, bands: Ints, source: Rows, label_bytes: int, width: int, reach: int, runs: Runs
) -> None:
    """Cut bands of rows of a label map into runs and unite those of each band, until none is left.

    A label has 1 or 2 bytes; ``reach`` is 1 where pixels that share a corner are connected, else 0.
    """
    row_starts, row_ends = runs.row_starts, runs.row_ends
    while True:
        band = take_ticket(ticket)
        if band >= bands.shape[0]:
            return
        first = np.int64(bands[band, 0]) * width
        for y in range(bands[band, 0], bands[band, 1]):
            row_starts[y] = first
            end = _cut_row(source[0] + y * source[1], width, label_bytes, first, runs)
            row_ends[y] = end
            if y > bands[band, 0]:
                unite_rows(np.int64(row_starts[y - 1]), first, first, end, reach, runs)
            first = end


@njit(**KERNEL)
def unite_bands(bands: Ints, reach: int, runs: Runs) -> None:
    """Unite the runs on both sides of each seam between bands."""
    row_starts, row_ends = runs.row_starts, runs.row_ends
    for band in range(1, bands.shape[0]):
        y = np.int64(bands[band, 0])
        unite_rows(
            np.int64(row_starts[y - 1]), np.int64(row_ends[y - 1]), np.int64(row_starts[y]),
            np.int64(row_ends[y]), reach, runs,
        )  # fmt: skip


@njit(**KERNEL)
def flatten(runs: Runs) -> int:
    """Point every run at its region's first run and count the pixels; the number of regions.

    Parents are lower than their runs, so one pass in order does it.
    """
    row_starts, row_ends, ends = runs.row_starts, runs.row_ends, runs.ends
    parents, areas = runs.parents, runs.areas
    count = 0
    for y in range(row_ends.size):
        start = 0
        for run in range(row_starts[y], row_ends[y]):
            end = np.int64(ends[run])
            parent = np.int64(parents[run])
            if parent == run:
                areas[run] = end - start
                count += 1
            else:
                root = parents[parent]
                parents[run] = root
                areas[root] += end - start
            start = end
    return count


@njit(**INNER)
def row_of_regions(y: int, runs: Runs, row: Any) -> int:
    """A row's runs with the labels of their regions, equal ones merged; returns how many."""
    count = 0
    for run in range(runs.row_starts[y], runs.row_ends[y]):
        count = append_run(row, count, runs.ends[run], runs.labels[runs.parents[run]])
    return count
