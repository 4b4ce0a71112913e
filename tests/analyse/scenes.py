"""Slow truths of road and zones, and label maps to try them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

CLASSES = ("road", "pavement", "car", "person", "sky")
ROAD, PAVEMENT, CAR, PERSON, SKY = range(5)


@st.composite
def label_maps(draw: st.DrawFn, *, most: int = 14) -> NDArray[Any]:
    """Small maps with much road, of both label types."""
    height, width = draw(st.integers(1, most)), draw(st.integers(1, most))
    seed, share = draw(st.integers(0, 2**32 - 1)), draw(st.floats(0.3, 0.95))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CLASSES), (height, width))
    labels[rng.random((height, width)) < share] = ROAD
    return labels.astype(draw(st.sampled_from([np.uint8, np.uint16])))


def slow_region(wanted: NDArray[np.bool_], bottom: int) -> NDArray[np.bool_]:
    """The largest region that reaches row ``bottom``: flood from each of that row's pixels."""
    best = np.zeros_like(wanted)
    for x in range(wanted.shape[1]):
        region = np.zeros_like(wanted)
        todo = [(bottom, x)]
        while todo:
            row, column = todo.pop()
            inside = 0 <= row <= bottom and 0 <= column < wanted.shape[1]
            if inside and wanted[row, column] and not region[row, column]:
                region[row, column] = True
                todo += [
                    (row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)
                ]  # fmt: skip
        if region.sum() > best.sum():
            best = region
    return best


def slow_obstacle(column: NDArray[np.bool_], bottom: int, least: int) -> int:
    """The lowest row of the first ``least`` obstacle pixels upon each other, or -1."""
    for y in range(bottom, least - 2, -1):
        if column[y - least + 1 : y + 1].all():
            return y
    return -1


def slow_inside(points: list[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a point is inside: edges that a ray to the left crosses, upper ends not counted."""
    inside = False
    for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
        if (ay <= y) != (by <= y) and ax + (y - ay) * (bx - ax) / (by - ay) <= x:
            inside = not inside
    return inside
