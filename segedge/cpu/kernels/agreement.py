"""The kernel that compares two grids of logits; see `segedge.cpu.agreement`."""

from __future__ import annotations

import numpy as np

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.tables import INNER, KERNEL, Bytes, Floats, Ints, Longs

_LOWEST = np.float32(-np.inf)


@njit(**KERNEL)
def compare_points(
    carried: Floats, network: Floats, least_lead: float, said: Ints, labels: Ints, clear: Bytes,
    lines: Floats, counts: Longs,
) -> None:  # fmt: skip
    """Count points where both say the same, clear ones away from borders, and both at once.

    Logits are C x Gh x Gw. ``said``, ``labels`` and ``clear`` are scratch, Gh x Gw, ``lines`` 2 x
    Gw. NaN never wins.
    """
    best, second = lines[0], lines[1]
    height, width = labels.shape
    for y in range(height):
        _best_row(carried, y, labels[y], best, second)
        for x in range(width):
            said[y, x] = labels[y, x]
        _best_row(network, y, labels[y], best, second)
        for x in range(width):
            clear[y, x] = best[x] - second[x] >= least_lead
    for y in range(height):
        above, below = labels[max(y - 1, 0)], labels[min(y + 1, height - 1)]
        _leave_out_borders(above, labels[y], below, clear[y])
        _count(said[y], labels[y], clear[y], counts)


@njit(**INNER)
def _best_row(logits: Floats, y: int, labels: Ints, best: Floats, second: Floats) -> None:
    """The best class of each point of a row, and both best logits; one channel leads over zero."""
    if logits.shape[0] == 1:
        for x in range(labels.size):
            value = logits[0, y, x]
            labels[x] = value > 0.0
            best[x], second[x] = abs(value), 0.0
        return
    for x in range(labels.size):
        labels[x], best[x], second[x] = 0, _LOWEST, _LOWEST
    for c in range(logits.shape[0]):
        _raise_row(logits[c, y], np.int32(c), labels, best, second)


@njit(**INNER)
def _raise_row(plane: Floats, label: int, labels: Ints, best: Floats, second: Floats) -> None:
    for x in range(labels.size):
        value, most = plane[x], best[x]
        wins = value > most
        other = most if wins else value
        second[x] = other if other > second[x] else second[x]
        best[x] = value if wins else most
        labels[x] = label if wins else labels[x]


@njit(**INNER)
def _leave_out_borders(above: Ints, row: Ints, below: Ints, clear: Bytes) -> None:
    """No point is clear that has a neighbour of another class, of eight."""
    for x in range(row.size):
        clear[x] &= (above[x] == row[x]) & (below[x] == row[x])
    for step in (-1, 1):
        start, end = max(0, -step), row.size - max(0, step)
        here, up, mid, down = (
            row[start:end], above[start + step : end + step],
            row[start + step : end + step], below[start + step : end + step],
        )  # fmt: skip
        kept = clear[start:end]
        for x in range(here.size):
            label = here[x]
            kept[x] &= (up[x] == label) & (mid[x] == label) & (down[x] == label)


@njit(**INNER)
def _count(said: Ints, labels: Ints, clear: Bytes, counts: Longs) -> None:
    equal, lead, both = np.int32(0), np.int32(0), np.int32(0)
    for x in range(labels.size):
        same = np.int32(said[x] == labels[x])
        equal += same
        lead += np.int32(clear[x])
        both += same & np.int32(clear[x])
    counts[0] += equal
    counts[1] += lead
    counts[2] += both
