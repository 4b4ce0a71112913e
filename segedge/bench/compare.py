"""Two results beside each other: ratios with their intervals, and what that says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segedge.bench.measure import Statistics
from segedge.bench.results import Mode, Results
from segedge.errors import UsageError

Verdict = Literal["slower", "faster", "same", "too noisy to say"]


@dataclass(frozen=True)
class Ratio:
    """The time of the second results as a multiple of the first's."""

    backend: str
    mode: Mode
    before_ms: float
    after_ms: float
    value: float
    """Median over median; above 1 is slower."""
    low: float
    high: float
    """The interval: every median of one span over every one of the other."""
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
    """The ratio of each backend and mode that both have.

    Args:
        before: The baseline.
        after: What is compared with it.
        tolerance: Share by which a median may grow: 0.05 is 5 %.

    Raises:
        UsageError: Other sizes, or nothing in common.
    """
    _check_sizes(before, after)
    old = {(row.backend, row.mode): row.times for row in before.rows}
    ratios = tuple(
        _ratio(row.backend, row.mode, old[row.backend, row.mode], row.times, tolerance)
        for row in after.rows
        if (row.backend, row.mode) in old
    )
    if not ratios:
        raise UsageError(
            "the two results have no backend and mode in common",
            facts={"first": _names(before), "second": _names(after)},
            fix="measure both with the same --backend and --mode",
        )
    return ratios


def _ratio(
    backend: str, mode: Mode, before: Statistics, after: Statistics, tolerance: float
) -> Ratio:
    (old_low, old_high), (new_low, new_high) = before.span_ms, after.span_ms
    value, low, high = after.p50_ms / before.p50_ms, new_low / old_high, new_high / old_low
    verdict = judge(value, low, high, tolerance)
    return Ratio(backend, mode, before.p50_ms, after.p50_ms, value, low, high, verdict)


def _check_sizes(before: Results, after: Results) -> None:
    first, second = before.subject, after.subject
    sizes = [(s.network_size, s.frame_size) for s in (first, second)]
    if sizes[0] != sizes[1]:
        raise UsageError(
            "the two results are of different sizes",
            facts={
                name: f"{s.model}: network {s.network_size}, frame {s.frame_size}"
                for name, s in (("first", first), ("second", second))
            },
            fix="measure both with models of one input size and the same --frame-size",
        )


def _names(results: Results) -> str:
    return ", ".join(f"{row.backend} {row.mode}" for row in results.rows)


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
    old, new = ({(r.backend, r.mode) for r in results.rows} for results in (before, after))
    found += [f"only in one of them: {backend} {mode}" for backend, mode in sorted(old ^ new)]
    return found
