"""Polygons: is it one, and which pixels lie inside."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
"""(x, y)."""

Spans = NDArray[np.int32]
"""N x 3: row, first column, column behind the last."""


def crossing_edges(points: Sequence[Point]) -> tuple[int, int] | None:
    """The first two edges that cross or touch each other though they are no neighbours, or None.

    Edge n goes from point n to the next one. Neighbours that lie upon each other count, too.
    """
    count = len(points)
    edges = list(pairwise([*points, points[0]]))
    for a in range(count):
        for b in range(a + 1, count):
            if b == a + 1 or (a == 0 and b == count - 1):
                first, second = (a, b) if b == a + 1 else (b, a)
                if _turns_back(*edges[first], edges[second][1]):
                    return a, b
            elif _touch(*edges[a], *edges[b]):
                return a, b
    return None


def polygon_area(points: Sequence[Point]) -> float:
    """The area inside, by the shoelace formula; not negative."""
    total = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*points, points[0]]))
    return abs(total) / 2


def polygon_spans(points: Sequence[Point], height: int, width: int) -> Spans:
    """The pixels of a frame whose centres, at integers, lie inside a polygon.

    A centre on an edge belongs to the polygon on its right (below, for level edges), so polygons
    that share an edge share no pixel.
    """
    x, y = np.asarray(points, np.float64).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    spans = []
    first = max(0, int(np.ceil(y.min())))
    for row in range(first, min(height - 1, int(np.ceil(y.max()))) + 1):
        cut = (y <= row) != (next_y <= row)
        slope = (next_x[cut] - x[cut]) / (next_y[cut] - y[cut])
        at = np.sort(x[cut] + (row - y[cut]) * slope)
        columns = np.clip(np.ceil(at), 0, width).astype(np.int32)
        for begin, end in zip(columns[0::2], columns[1::2], strict=True):
            if begin < end:
                spans.append((row, begin, end))
    return np.array(spans, np.int32).reshape(-1, 3)


def _side(a: Point, b: Point, c: Point) -> float:
    """Above 0 where c lies left of the line from a to b, 0 on it."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _turns_back(a: Point, b: Point, c: Point) -> bool:
    """Whether b to c lies upon a to b, or is no edge at all."""
    forward = (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1])
    return b == c or a == b or (_side(a, b, c) == 0 and forward < 0)


def _within(a: Point, b: Point, c: Point) -> bool:
    """Whether c, which is on the line, lies between a and b."""
    return min(a[0], b[0]) <= c[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= c[1] <= max(a[1], b[1])


def _touch(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether two segments have a point in common."""
    sides = (_side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b))
    if sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(side == 0 and _within(*points) for side, points in zip(sides, ends, strict=True))
