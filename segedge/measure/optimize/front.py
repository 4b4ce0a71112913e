"""The Pareto front: what nothing else beats in both respects."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> tuple[bool, ...]:
    """Which points no other one dominates; less is better in both numbers.

    A point is dominated by one that is at most as large in both numbers and smaller in one, so
    equal points are on the front together or not at all. One with a NaN is never on it.
    """
    known = [n for n, point in enumerate(points) if not any(map(math.isnan, point))]
    flags = [False] * len(points)
    least = math.inf
    at: tuple[float, float] | None = None
    # By the first cost, then the second: whoever comes before is at most as large in the first.
    for n in sorted(known, key=lambda n: points[n]):
        if points[n] == at or points[n][1] < least:
            flags[n] = True
            at, least = points[n], points[n][1]
    return tuple(flags)
