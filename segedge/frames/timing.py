"""Stage times of frames, and their statistics. Pure: no clock but the one handed in."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

STAGES = (
    "decode", "staging", "upload", "preprocess", "network", "motion", "smoothing", "tail",
    "effect", "download", "gpu", "legend", "encode",
)  # fmt: skip
"""Stage names in the order in which a frame meets them; the tail includes the overlay. ``gpu`` is
all of a frame's work on a GPU, where it is one launch and cannot be told apart; ``staging`` is the
copy into page-locked memory before."""

COMPUTING = STAGES[1:-1]
"""Stages that turn a frame into a result."""


@dataclass
class StageTimes:
    """What each stage of one frame took, in milliseconds."""

    milliseconds: dict[str, float] = field(default_factory=dict)
    """Stage name to milliseconds; a stage that ran twice holds the sum."""

    def add(self, stage: str, milliseconds: float) -> None:
        """Add time to a stage."""
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + milliseconds

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time the body of a ``with`` statement as this stage."""
        start_ns = time.perf_counter_ns()
        try:
            yield
        finally:
            self.add(stage, (time.perf_counter_ns() - start_ns) / 1e6)

    def total(self, *stages: str) -> float:
        """Sum over the given stages (all, if none is given), in milliseconds."""
        chosen = stages or tuple(self.milliseconds)
        return sum(self.milliseconds.get(stage, 0.0) for stage in chosen)


def percentile(values: Sequence[float], percent: float) -> float:
    """Percentile with linear interpolation between order statistics (as NumPy's default)."""
    if not values or not 0.0 <= percent <= 100.0:
        raise ValueError(f"percentile {percent} of {len(values)} values")
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100.0
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


@dataclass(frozen=True)
class Summary:
    """Count, mean and percentiles of one stage, in milliseconds."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> Summary:
        """Summarise at least one value."""
        return cls(
            count=len(values_ms),
            mean_ms=sum(values_ms) / len(values_ms),
            p50_ms=percentile(values_ms, 50),
            p95_ms=percentile(values_ms, 95),
            p99_ms=percentile(values_ms, 99),
            max_ms=max(values_ms),
        )
