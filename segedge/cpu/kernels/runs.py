"""Kernels that cut an output row into runs of equal labels.

Along a row of a cell every class is a straight line, so the labels are the runs under the upper
envelope of the lines: found from where lines cross, never by evaluating pixel after pixel.
"""

from __future__ import annotations

import numpy as np

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.tables import FIRST, INNER, Doubles, Ints, Line


@njit(**INNER)
def append_run(runs: Ints, count: int, end: int, label: int) -> int:
    """Extend the last run or start a new one; return the number of runs."""
    if count > 0 and runs[count - 1, 1] == label:
        runs[count - 1, 0] = end
        return count
    runs[count, 0] = end
    runs[count, 1] = label
    return count + 1


@njit(**INNER)
def row_runs(
    segments: Ints,
    segment_count: int,
    contender: Ints,
    values: Doubles,
    weight: float,
    column_low: Ints,
    column_weights: Doubles,
    column_map: Line,
    lines: Doubles,
    runs: Ints,
) -> int:
    """Runs of equal labels (end, label) of an output row of classified cells; how many."""
    count = start = FIRST
    for s in range(segment_count):
        end = np.int64(segments[s, 0])
        if segments[s, 1] >= 0:
            count = append_run(runs, count, end, segments[s, 1])
        else:
            low = column_low[segments[s, 4]]
            shift = low - column_map[1]
            first, last = segments[s, 2], segments[s, 3]
            winner, at_end = _set_lines(
                values, first, last, weight, column_weights[start], column_weights[end - 1], lines
            )
            while winner != at_end:
                bend = _next_bend(lines, last - first, winner)
                if bend == np.inf:
                    break
                pixel = _first_beyond(bend, start + 1, end, shift, column_map, column_weights)
                if pixel == end:
                    break
                overtaker = _winner_at(lines, last - first, column_weights[pixel])
                if overtaker != winner:
                    count = append_run(runs, count, pixel, contender[first + winner])
                    winner = overtaker
                start = pixel
            count = append_run(runs, count, end, contender[first + winner])
        start = end
    return count


@njit(**INNER)
def _set_lines(
    values: Doubles,
    first: int,
    last: int,
    weight: float,
    weight_start: float,
    weight_end: float,
    lines: Doubles,
) -> tuple[int, int]:
    """Each contender's line (value at the left corner, slope) along an output row of a cell.

    Returns the contenders that win at the first and at the last pixel. If they are the same one,
    it wins in between too: the difference of two lines is a line.
    """
    best_start, best_end = -np.inf, -np.inf
    at_start, at_end = 0, 0
    for k in range(last - first):
        i = np.uintp(first + k)  # unsigned: no check for negative indices
        left = values[i, 0] + (values[i, 2] - values[i, 0]) * weight
        slope = values[i, 1] + (values[i, 3] - values[i, 1]) * weight - left
        lines[k, 0] = left
        lines[k, 1] = slope
        value = left + slope * weight_start
        if value > best_start:
            best_start, at_start = value, k
        value = left + slope * weight_end
        if value > best_end:
            best_end, at_end = value, k
    return at_start, at_end


@njit(**INNER)
def _next_bend(lines: Doubles, count: int, current: int) -> float:
    """Where the current line is overtaken first; infinity if no other is steeper."""
    bend = np.inf
    for k in range(count):
        steeper = lines[k, 1] - lines[current, 1]
        if steeper > 0.0:
            bend = min(bend, (lines[current, 0] - lines[k, 0]) / steeper)
    return bend


@njit(**INNER)
def _first_beyond(
    bend: float,
    start: int,
    end: int,
    shift: float,
    column_map: Line,
    weights: Doubles,
) -> int:
    """First pixel of ``start..end`` whose weight exceeds ``bend``, or ``end``.

    ``shift`` is the cell's grid index less the map's offset.
    """
    estimate = np.ceil((bend + shift) * column_map[2])
    pixel = end if estimate >= end else max(np.int64(estimate), start)
    # The product may round to the wrong side of a pixel: its own weight decides.
    while pixel > start and weights[pixel - 1] > bend:
        pixel -= 1
    while pixel < end and weights[pixel] <= bend:
        pixel += 1
    return pixel


@njit(**INNER)
def _winner_at(lines: Doubles, count: int, weight: float) -> int:
    """The highest line at a weight, the first of equals."""
    best, winner = -np.inf, 0
    for k in range(count):
        value = lines[k, 0] + lines[k, 1] * weight
        if value > best:
            best, winner = value, k
    return winner
