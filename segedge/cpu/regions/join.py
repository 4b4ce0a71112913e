"""Kernels that give small regions and holes to their neighbours; `segedge.reference.regions`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.tables import INNER, KERNEL, Ints, Shorts, table
from segedge.cpu.regions.runs import Runs

_SETTLED, _UNKNOWN = -1, -2
"""What `_mark` says of regions that stay; the others get a number of their own from 0 on."""


@table
class Borders(NamedTuple):
    """Common borders of the numbered regions; a neighbour may come several times, with parts."""

    starts: Ints
    """Where each region's list starts, and where the last one ends."""
    neighbours: Ints
    lengths: Ints
    """Pixel sides."""


@njit(**KERNEL)
def join_regions(runs: Runs, least: Ints, fill: int, marks: Ints, tally: Ints) -> int:
    """Write the new labels of joined regions to ``runs.labels`` at their first run; how many.

    ``least`` pixels a region must have, by class (other labels name no class); holes of fewer than
    ``fill`` pixels are filled. ``marks`` and ``tally`` (all zero before and after) are scratch, one
    a run.
    """
    regions = _mark(runs, least, fill, marks)
    if regions.size == 0:
        return 0
    borders = _borders(runs, marks, regions.size)
    level = np.zeros(regions.size, np.int32)
    if fill > 1:
        _keep_open(regions, borders, runs.labels, runs.areas, least, marks, level)
    joined: int = _join(regions, borders, runs.labels, marks, level, tally)
    return joined


@njit(**INNER)
def _mark(runs: Runs, least: Ints, fill: int, marks: Ints) -> Ints:
    """Number the regions that may be given away: the small ones, and those that may be holes."""
    row_starts, row_ends, parents = runs.row_starts, runs.row_ends, runs.parents
    labels, areas = runs.labels, runs.areas
    count = 0
    for y in range(row_ends.size):
        for run in range(row_starts[y], row_ends[y]):
            if parents[run] != run:
                continue
            label = labels[run]
            if label >= least.size:
                marks[run] = _UNKNOWN
            elif areas[run] < least[label] or areas[run] < fill:
                marks[run] = count
                count += 1
            else:
                marks[run] = _SETTLED
    regions = np.empty(count, np.int32)
    for y in range(row_ends.size):
        for run in range(row_starts[y], row_ends[y]):
            if parents[run] == run and marks[run] >= 0:
                regions[marks[run]] = run
    if fill > 1:
        _settle_at_edge(runs, least, marks)
    return regions


@njit(**INNER)
def _settle_at_edge(runs: Runs, least: Ints, marks: Ints) -> None:
    """What touches the image's border is no hole, and what is not small either is settled."""
    row_starts, row_ends = runs.row_starts, runs.row_ends
    last = row_ends.size - 1
    for y in range(row_ends.size):
        end = np.int64(row_ends[y])
        for run in range(row_starts[y], end):
            if y == 0 or y == last or run == row_starts[y] or run == end - 1:
                root = runs.parents[run]
                if marks[root] >= 0 and runs.areas[root] >= least[runs.labels[root]]:
                    marks[root] = _SETTLED


@njit(**INNER)
def _borders(runs: Runs, marks: Ints, count: int) -> Borders:
    row_starts, row_ends = runs.row_starts, runs.row_ends
    ends, parents = runs.ends, runs.parents
    runs_in_all = np.int64(0)
    for y in range(row_ends.size):
        runs_in_all += row_ends[y] - row_starts[y]
    most = (
        6 * runs_in_all
    )  # a run has at most one neighbour before it and as many above as ends there
    owners, others = np.empty(most, np.int32), np.empty(most, np.int32)
    sides = np.empty(most, np.int32)
    used = 0
    for y in range(row_ends.size):
        first, end = np.int64(row_starts[y]), np.int64(row_ends[y])
        for run in range(first + 1, end):
            used = _note(parents[run], parents[run - 1], 1, marks, owners, others, sides, used)
        if y == 0:
            continue
        above, start = np.int64(row_starts[y - 1]), np.int64(0)
        run = first
        while run < end:
            stop = min(ends[run], ends[above])
            used = _note(
                parents[run], parents[above], stop - start, marks, owners, others, sides, used
            )
            start = stop
            if ends[above] == stop:
                above += 1
            if ends[run] == stop:
                run += 1
    borders: Borders = _sorted_by_owner(owners[:used], others, sides, marks, count)
    return borders


@njit(**INNER)
def _note(
    a: int, b: int, length: int, marks: Ints, owners: Ints, others: Ints, sides: Ints, used: int
) -> int:
    """Add a stretch of border to the lists of both its regions; returns the entries used."""
    if a == b:
        return used
    if marks[a] >= 0:
        owners[used], others[used], sides[used] = a, b, length
        used += 1
    if marks[b] >= 0:
        owners[used], others[used], sides[used] = b, a, length
        used += 1
    return used


@njit(**INNER)
def _sorted_by_owner(owners: Ints, others: Ints, sides: Ints, marks: Ints, count: int) -> Borders:
    starts = np.zeros(count + 1, np.int32)
    for owner in owners:
        starts[marks[owner] + 1] += 1
    for k in range(count):
        starts[k + 1] += starts[k]
    place = starts[:-1].copy()
    neighbours, lengths = np.empty(owners.size, np.int32), np.empty(owners.size, np.int32)
    for i in range(owners.size):
        k = marks[owners[i]]
        neighbours[place[k]], lengths[place[k]] = others[i], sides[i]
        place[k] += 1
    return Borders(starts, neighbours, lengths)


@njit(**INNER)
def _keep_open(
    regions: Ints, borders: Borders, labels: Shorts, areas: Ints, least: Ints, marks: Ints,
    level: Ints,
) -> None:  # fmt: skip
    """Settle the regions that are neither small nor enclosed by one class."""
    starts, neighbours = borders.starts, borders.neighbours
    for k in range(regions.size):
        root = regions[k]
        if marks[root] < 0 or areas[root] < least[labels[root]]:
            continue
        lowest, highest = np.int64(1 << 20), np.int64(-1)
        for i in range(starts[k], starts[k + 1]):
            near = neighbours[i]
            label = np.int64(labels[near])
            if label >= least.size or areas[near] >= least[label]:
                lowest, highest = min(lowest, label), max(highest, label)
        if lowest != highest or highest >= least.size:
            level[k] = -1
    for k in range(regions.size):
        if level[k] < 0:
            marks[regions[k]] = _SETTLED


@njit(**INNER)
def _join(
    regions: Ints, borders: Borders, labels: Shorts, marks: Ints, level: Ints, tally: Ints
) -> int:
    """Join round by round; each region is looked at once, when a neighbour has been settled.

    ``level`` is the round in which a region was settled, 0 where it was not.
    """
    starts, neighbours = borders.starts, borders.neighbours
    queue = np.empty(regions.size, np.int32)
    is_queued = np.zeros(regions.size, np.bool_)
    size = 0
    for k in range(regions.size):
        if marks[regions[k]] >= 0:
            for i in range(starts[k], starts[k + 1]):
                if marks[neighbours[i]] == _SETTLED:
                    queue[size], is_queued[k] = k, True
                    size += 1
                    break
    done, turn = 0, 0
    while done < size:
        turn += 1
        end = size
        for at in range(done, end):
            k = queue[at]
            best = _longest(k, borders, marks, level, turn, tally)
            labels[regions[k]] = labels[best]
            level[k] = turn
        for at in range(done, end):
            k = queue[at]
            for i in range(starts[k], starts[k + 1]):
                near = marks[neighbours[i]]
                if near >= 0 and not is_queued[near]:
                    queue[size], is_queued[near] = near, True
                    size += 1
        done = end
    return size


@njit(**INNER)
def _longest(k: int, borders: Borders, marks: Ints, level: Ints, turn: int, tally: Ints) -> int:
    """The neighbour, settled before this round, with the longest border; of equals the first."""
    starts, neighbours = borders.starts, borders.neighbours
    for i in range(starts[k], starts[k + 1]):
        tally[neighbours[i]] += borders.lengths[i]
    best: int = np.int64(-1)
    most: int = np.int64(0)
    for i in range(starts[k], starts[k + 1]):
        near = np.int64(neighbours[i])
        length = np.int64(tally[near])
        mark = marks[near]
        if mark == _UNKNOWN or (mark >= 0 and not 0 < level[mark] < turn):
            continue
        if length > most or (length == most and near < best):
            best, most = near, length
    for i in range(starts[k], starts[k + 1]):
        tally[neighbours[i]] = 0
    return best
