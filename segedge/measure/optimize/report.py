"""The table of `segedge optimize`."""

from __future__ import annotations

from segedge.measure.optimize.optimize import Tuning
from segedge.measure.optimize.trial import Trial
from segedge.measure.report.table import Column, ms, percent, span, table_of


def table(found: Tuning) -> list[list[str]]:
    """A row a candidate; ``*`` is on the Pareto front, ``>`` is recommended."""

    def marks(one: Trial) -> str:
        is_best = one is found.recommendation.trial
        return (">" if is_best else " ") + ("*" if one.on_front else " ")

    columns: list[Column[Trial]] = [
        ("", marks),
        ("precision", lambda one: one.candidate.label),
        ("backend", lambda one: one.candidate.backend),
        ("mIoU", lambda one: percent(one.score.miou)),
        ("drop", lambda one: "-" if one.score.miou is None else f"{_rounded(one.drop):.2f}"),
        ("agree %", lambda one: f"{100 * one.score.agreement:.3f}"),
        ("network ms", lambda one: ms(one.times("network").p50_ms)),
        ("frame ms", lambda one: ms(one.times("frame").p50_ms)),
        ("within", lambda one: span(one.times(found.options.objective).span_ms)),
        ("MB", lambda one: f"{one.candidate.artifact.size_bytes / 1e6:.1f}"),
    ]
    return table_of(found.trials, columns)


def _rounded(points: float) -> float:
    """Without the sign of a zero."""
    return round(points, 2) + 0.0
