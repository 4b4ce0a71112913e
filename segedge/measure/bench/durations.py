"""Warm-up, repeats and statistics of durations. Pure: no clock but the one handed in."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segedge.frames.timing import percentile

CONFIDENCE = 0.95
_WINDOW = 5
_STEADY_WITHIN = 0.05

Clock = Callable[[], int]
QUANTILES = 101
"""Quantiles that are kept: 0, 1 ... 100 % of the values lie below."""


class Milliseconds(float):
    """What a step returns that has timed itself, as one on a GPU does by events."""


@dataclass(frozen=True)
class WarmUp:
    """Repeats that do not count, and whether two windows agreed before the time was up."""

    count: int
    is_steady: bool


def warm_up(
    step: Callable[[], object], *, seconds: float, clock_ns: Clock = time.perf_counter_ns
) -> WarmUp:
    """Repeat until the medians of two windows of five in a row differ by at most 5 %.

    Gives up after so many seconds; at least two windows run.
    """
    end_ns = clock_ns() + round(seconds * 1e9)
    before, count = math.inf, 0
    while True:
        median = statistics.median(_timed(step, clock_ns) for _ in range(_WINDOW))
        count += _WINDOW
        if abs(median - before) <= _STEADY_WITHIN * before < math.inf:
            return WarmUp(count, True)
        if count >= 2 * _WINDOW and clock_ns() >= end_ns:
            return WarmUp(count, False)
        before = median


def repeat(
    step: Callable[[], object],
    *,
    seconds: float,
    at_least: int = 10,
    clock_ns: Clock = time.perf_counter_ns,
    between: Callable[[], object] = lambda: None,
) -> list[float]:
    """Milliseconds of each repeat, for so long and so often at least, without those of ``between``.

    A step that returns `Milliseconds` has timed itself.
    """
    end_ns = clock_ns() + round(seconds * 1e9)
    values: list[float] = []
    while len(values) < at_least or clock_ns() < end_ns:
        values.append(_timed(step, clock_ns))
        between()
    return values


def _timed(step: Callable[[], object], clock_ns: Clock) -> float:
    start_ns = clock_ns()
    own = step()
    return float(own) if isinstance(own, Milliseconds) else (clock_ns() - start_ns) / 1e6


def median_ranks(count: int, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """Ranks (from 1) of the order statistics that enclose the median at this confidence.

    The number of values below the median is binomial with p = 1/2 whatever the distribution, so
    [x(l), x(n+1-l)] covers it with probability 1 - 2 P(B < l): H. A. David, H. N. Nagaraja, Order
    Statistics, 3rd ed. 2003, section 7.1; J.-Y. Le Boudec, Performance Evaluation, theorem 2.1. It
    assumes independent values. The narrowest such symmetric pair; None where even the extremes do
    not suffice: fewer than 6 values at 95 %.
    """
    tail, rank = 0.0, 0
    while rank < (count + 1) // 2:
        tail += math.exp(_log_choose(count, rank) - count * math.log(2.0))
        if 2.0 * tail > 1.0 - confidence:
            break
        rank += 1
    return (rank, count + 1 - rank) if rank else None


def _log_choose(count: int, chosen: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)


def median_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Confidence interval of the median without a distribution, see `median_ranks`."""
    ranks = median_ranks(len(values), confidence)
    if ranks is None:
        return None
    ordered = sorted(values)
    return ordered[ranks[0] - 1], ordered[ranks[1] - 1]


@dataclass(frozen=True)
class Statistics:
    """What durations amount to, in milliseconds."""

    count: int
    min_ms: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    interval_ms: tuple[float, float] | None
    """95 % confidence interval of the median over all repeats; None below 6 repeats."""
    rounds_ms: tuple[float, ...]
    """The median of each round: how the machine drifted."""
    quantiles_ms: tuple[float, ...] = ()
    """`QUANTILES` values, evenly spaced in probability: the distribution. Empty in results of
    schema 2."""

    @classmethod
    def of(cls, rounds: Sequence[Sequence[float]]) -> Statistics:
        """Statistics of rounds of durations in milliseconds; no round is empty."""
        values = [value for values_ms in rounds for value in values_ms]
        return cls(
            count=len(values),
            min_ms=min(values),
            mean_ms=statistics.fmean(values),
            p50_ms=percentile(values, 50),
            p90_ms=percentile(values, 90),
            p95_ms=percentile(values, 95),
            p99_ms=percentile(values, 99),
            max_ms=max(values),
            interval_ms=median_interval(values),
            rounds_ms=tuple(percentile(values_ms, 50) for values_ms in rounds),
            quantiles_ms=_quantiles(values),
        )

    @property
    def per_second(self) -> float:
        """Throughput, one after the other: the inverse of the mean."""
        return 1000.0 / self.mean_ms

    @property
    def span_ms(self) -> tuple[float, float]:
        """The interval, widened to the medians of all rounds; the extremes without an interval.

        Repeats within a round share the state of the machine and are not independent: where the
        rounds differ by more than the interval says, the rounds are believed.
        """
        low, high = self.interval_ms or (self.min_ms, self.max_ms)
        return min(low, *self.rounds_ms), max(high, *self.rounds_ms)

    @property
    def relative_span(self) -> float:
        """Width of the span as a share of the median."""
        low, high = self.span_ms
        return (high - low) / self.p50_ms


def _quantiles(values: Sequence[float]) -> tuple[float, ...]:
    """As `percentile` at each whole percent, sorting once; to a tenth of a microsecond."""
    ordered, steps = sorted(values), QUANTILES - 1
    found = []
    for n in range(QUANTILES):
        position = (len(ordered) - 1) * n / steps
        low = math.floor(position)
        high = min(low + 1, len(ordered) - 1)
        found.append(ordered[low] + (ordered[high] - ordered[low]) * (position - low))
    return tuple(round(value, 4) for value in found)
