"""What `segedge optimize` found, as one self-contained page."""

from __future__ import annotations

from segedge.measure.optimize.optimize import Tuning
from segedge.measure.optimize.report import table as rows_of
from segedge.measure.optimize.video import rates_text
from segedge.measure.report.page import bullets, facts, figure, page, section, table
from segedge.measure.report.plots import Point, Series, scatter


def html(found: Tuning) -> str:
    """The whole page: the answer, the Pareto picture, the table, and what was not taken."""
    chosen = found.trials.index(found.recommendation.trial)
    what = "image to overlay" if found.options.objective == "frame" else "the network alone"
    marks = {
        ">": "recommended",
        "*": "on the Pareto front: nothing else is at once faster and as accurate",
        "drop": f"points of {_measure(found)} below the float model; {found.bound:g} are allowed",
        "agree %": "pixels with the float model's label, its ties left out",
        "within": "where the median is known to be",
    }
    rejected = found.recommendation.rejected
    return page(
        f"Precisions and backends on {found.environment.line}",
        [
            section(
                "Accuracy over speed",
                figure(_picture(found), caption=f"Speed: {what}, one at a time. Right and up is "
                       "better.", legend=_names(found)),
            ),
            section("Candidates", table(rows_of(found), marked=chosen), facts(marks)),
            section("Video", facts({"motion": rates_text(found.video)}) if found.video else ""),
            section("Not taken", bullets(f"{name}: {why}" for name, why in rejected.items())),
            section("Skipped", bullets(f"{name}: {why}" for name, why in found.skipped.items())),
        ],
        answer=found.recommendation.sentence,
        footer=f"segedge optimize, {found.environment.date}; {found.options.rounds} rounds of "
        f"{found.options.seconds:g} s a mode, each candidate in a process of its own, in turn.",
    )  # fmt: skip


def _measure(found: Tuning) -> str:
    return "agreement" if found.trials[0].score.miou is None else "mIoU"


def _names(found: Tuning) -> list[str]:
    return list(dict.fromkeys(one.candidate.precision for one in found.trials))


def _picture(found: Tuning) -> str:
    """A colour a precision, a point a candidate."""
    series = []
    for precision in _names(found):
        points = []
        for one in found.trials:
            if one.candidate.precision == precision:
                score = one.score.agreement if one.score.miou is None else one.score.miou
                rate = 1000.0 / one.times(found.options.objective).p50_ms
                points.append(Point(rate, 100.0 * score, label=one.candidate.name))
        series.append(Series(precision, tuple(points)))
    unit = "agreement %" if found.trials[0].score.miou is None else "mIoU %"
    return scatter(series, title="Accuracy over speed", x_unit="frames a second", y_unit=unit)
