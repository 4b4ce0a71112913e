"""Two results beside each other: ratios with their intervals, and what that says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segedge.errors import UsageError
from segedge.measure.bench.durations import Statistics
from segedge.measure.bench.results import Key, Results

Verdict = Literal["slower", "faster", "same", "too noisy to say"]


@dataclass(frozen=True)
class Ratio:
    """The median of the second results over that of the first: above 1 is slower.

    Between low and high lies every median of the one span over every one of the other.
    """

    key: Key
    before_ms: float
    after_ms: float
    value: float
    low: float
    high: float
    verdict: Verdict


def judge(value: float, low: float, high: float, tolerance: float) -> Verdict:
    """What a ratio says.

    Slower or faster: beyond the tolerance, and the interval leaves out 1. The same: the whole
    interval is within the tolerance. Everything else is not known.
    """
    if value > 1.0 + tolerance and low > 1.0:
        return "slower"
    if value < 1.0 / (1.0 + tolerance) and high < 1.0:
        return "faster"
    if low >= 1.0 / (1.0 + tolerance) and high <= 1.0 + tolerance:
        return "same"
    return "too noisy to say"


def compare(before: Results, after: Results, *, tolerance: float) -> tuple[Ratio, ...]:
    """The ratio of each backend, mode, batch and size that both have; 0.05 tolerates 5 %."""
    old = {row.key: row.times for row in before.rows}
    ratios = tuple(
        _ratio(row.key, old[row.key], row.times, tolerance) for row in after.rows if row.key in old
    )
    if not ratios:
        _check_sizes(before, after)
        raise UsageError(
            "the two results have no backend and mode in common",
            facts={"first": _names(before), "second": _names(after)},
            fix="measure both with the same --backend and --mode",
        )
    return ratios


def _ratio(key: Key, before: Statistics, after: Statistics, tolerance: float) -> Ratio:
    (old_low, old_high), (new_low, new_high) = before.span_ms, after.span_ms
    value, low, high = after.p50_ms / before.p50_ms, new_low / old_high, new_high / old_low
    verdict = judge(value, low, high, tolerance)
    return Ratio(key, before.p50_ms, after.p50_ms, value, low, high, verdict)


def _check_sizes(before: Results, after: Results) -> None:
    both = {"first": before, "second": after}
    pairs = {(row.backend, row.mode) for row in before.rows}
    if any((row.backend, row.mode) in pairs for row in after.rows):
        raise UsageError(
            "the two results are of different sizes",
            facts={
                name: f"{results.subject.model}: "
                + "; ".join(dict.fromkeys(row.key.sizes for row in results.rows))
                for name, results in both.items()
            },
            fix="measure both with models of one input size and the same --frame-size",
        )


def _names(results: Results) -> str:
    return ", ".join(f"{row.backend} {row.key.what}" for row in results.rows)


def notes(before: Results, after: Results) -> list[str]:
    """What else differs and bears on the ratios."""
    found = []
    if before.subject.sha256 != after.subject.sha256:
        found.append("the model files differ: the ratio compares two models")
    first, second = before.environment, after.environment
    if first.line != second.line:
        found.append(f"the machines differ: {first.line} | {second.line}")
    for name, version in second.libraries.items():
        if first.libraries.get(name) != version:
            found.append(f"{name}: {first.libraries.get(name) or '-'} | {version or '-'}")
    old, new = ({row.key for row in results.rows} for results in (before, after))
    names = sorted(f"{key.backend} {key.what}, {key.sizes}" for key in old ^ new)
    return found + [f"only in one of them: {name}" for name in names]
