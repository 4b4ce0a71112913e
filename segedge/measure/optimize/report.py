"""The table of `segedge optimize`."""

from __future__ import annotations

from segedge.measure.optimize.optimize import Tuning
from segedge.measure.report.table import ms


def table(found: Tuning) -> list[list[str]]:
    """A row a candidate; ``*`` is on the Pareto front, ``>`` is recommended."""
    rows = [["", "precision", "backend", "mIoU", "drop", "agree %", "network ms", "frame ms",
             "within", "MB"]]  # fmt: skip
    for one, on_front in zip(found.trials, found.front, strict=True):
        low, high = one.times(found.options.objective).span_ms
        mark = ">" if one is found.recommendation.trial else " "
        rows.append([
            mark + ("*" if on_front else " "), one.candidate.label, one.candidate.backend,
            "-" if one.score.miou is None else f"{100 * one.score.miou:.2f}",
            "-" if one.score.miou is None else f"{_rounded(one.drop):.2f}",
            f"{100 * one.score.agreement:.3f}", ms(one.timing.network.p50_ms),
            ms(one.timing.frame.p50_ms), f"{ms(low)} .. {ms(high)}",
            f"{one.candidate.artifact.size_bytes / 1e6:.1f}",
        ])  # fmt: skip
    return rows


def _rounded(points: float) -> float:
    """Without the sign of a zero."""
    return round(points, 2) + 0.0
