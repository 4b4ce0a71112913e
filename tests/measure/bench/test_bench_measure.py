"""Warm-up, repeats and intervals, on a clock of the test's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segedge.measure.bench.durations import (
    Statistics,
    median_interval,
    median_ranks,
    repeat,
    warm_up,
)


class Clock:
    """Stands still but for what the steps take."""

    def __init__(self, milliseconds: list[int]) -> None:
        self.now_ns, self.rest, self.steps = 0, list(milliseconds), 0

    def step(self) -> None:
        self.steps += 1
        self.now_ns += 1_000_000 * (self.rest.pop(0) if len(self.rest) > 1 else self.rest[0])

    def __call__(self) -> int:
        return self.now_ns


def test_warm_up_ends_when_two_windows_agree() -> None:
    clock = Clock([50] * 5 + [20] * 5 + [10] * 5 + [10])
    warmed = warm_up(clock.step, seconds=100, clock_ns=clock)
    assert (warmed.count, warmed.is_steady, clock.steps) == (20, True, 20)


def test_warm_up_gives_up_in_time() -> None:
    clock = Clock([1000 * 2**n for n in range(40) for _ in range(5)])
    warmed = warm_up(clock.step, seconds=1, clock_ns=clock)
    assert (warmed.count, warmed.is_steady) == (10, False)


def test_repeats_last_long_enough_and_are_enough() -> None:
    clock = Clock([10])
    assert repeat(clock.step, seconds=0.25, at_least=3, clock_ns=clock) == [10.0] * 25
    assert len(repeat(clock.step, seconds=0.01, at_least=7, clock_ns=clock)) == 7


@pytest.mark.parametrize(
    ("count", "ranks"),
    [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15))],
)
def test_ranks_are_those_of_the_tables(count: int, ranks: tuple[int, int] | None) -> None:
    """Of the sign test: 2 P(B <= l - 1) = 0.0313, 0.0078, 0.0391, 0.0215, 0.0414."""
    assert median_ranks(count) == ranks


@given(st.integers(6, 400))
def test_ranks_are_the_narrowest_that_suffice(count: int) -> None:
    ranks = median_ranks(count)
    assert ranks is not None
    below = [math.comb(count, k) for k in range(ranks[0] + 1)]
    assert 2 * sum(below[:-1]) <= 0.05 * 2**count < 2 * sum(below)
    assert sum(ranks) == count + 1


@given(st.lists(st.floats(0.01, 1e4), min_size=6, max_size=60))
def test_the_interval_encloses_the_median_of_the_values(values: list[float]) -> None:
    interval = median_interval(values)
    assert interval is not None
    assert interval[0] <= float(np.median(values)) * (1 + 1e-12)
    assert interval[1] >= float(np.median(values)) * (1 - 1e-12)


def test_the_interval_covers_the_true_median() -> None:
    """Log-normal durations, as latencies are skewed; the true median is 1."""
    random = np.random.default_rng(7)
    hits = 0
    for row in random.lognormal(0.0, 0.7, (2000, 25)):
        low, high = median_interval(row.tolist()) or (math.nan, math.nan)
        hits += low <= 1.0 <= high
    assert 0.945 <= hits / 2000 <= 0.970  # exact: 1 - 2 P(B <= 7) = 0.9567


def test_statistics_of_two_rounds_by_hand() -> None:
    times = Statistics.of([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])
    assert (times.count, times.min_ms, times.mean_ms, times.max_ms) == (6, 1.0, 4.0, 9.0)
    assert (times.p50_ms, times.p90_ms, times.p95_ms) == (3.5, 7.0, 8.0)
    assert times.p99_ms == pytest.approx(8.8)
    assert times.interval_ms == (1.0, 9.0)
    assert times.rounds_ms == (2.0, 5.0)
    assert times.per_second == 250.0
    assert times.relative_span == pytest.approx(8 / 3.5)


def test_rounds_that_drift_widen_the_span() -> None:
    times = Statistics.of([[10.0] * 50, [20.0] * 10])
    assert times.interval_ms == (10.0, 10.0)
    assert times.span_ms == (10.0, 20.0)
