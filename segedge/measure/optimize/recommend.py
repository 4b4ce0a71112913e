"""Which candidate to take: one that is accurate enough, and certainly faster than all before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segedge.errors import BackendError
from segedge.measure.bench.compare import judge
from segedge.measure.bench.durations import Statistics
from segedge.measure.bench.tables import TOO_WIDE
from segedge.measure.optimize.options import PRECISIONS, Objective
from segedge.measure.optimize.trial import Trial
from segedge.measure.report.table import ms


@dataclass(frozen=True)
class Recommendation:
    """The one to take, and why not another."""

    trial: Trial
    sentence: str
    rejected: dict[str, str]
    """Candidate to why it is not recommended, where its precision is below the chosen or faster."""


def faster(one: Statistics, other: Statistics) -> str:
    """``faster``, ``slower`` or ``too noisy to say``: the intervals of the medians decide."""
    (low, high), (other_low, other_high) = one.span_ms, other.span_ms
    return judge(one.p50_ms / other.p50_ms, low / other_high, high / other_low, 0.0)


def recommend(trials: Sequence[Trial], *, objective: Objective, bound: float) -> Recommendation:
    """Choose one.

    A candidate is admitted if its drop is within the bound, nothing is wrong with its output, and
    it is faster, beyond the intervals of the medians, than every admitted one of a more exact
    precision. The fastest of the least exact precision that is admitted is taken, which so is
    faster than all the others.
    """
    admitted: list[Trial] = []
    rejected: dict[str, str] = {}
    for precision in PRECISIONS:
        group = [one for one in trials if one.candidate.precision == precision]
        passed = []
        for one in group:
            reason = _objection(one, admitted, objective, bound)
            if reason:
                rejected[one.candidate.name] = reason
            else:
                passed.append(one)
        admitted += passed
    if not admitted:
        raise BackendError("no candidate is accurate enough", facts=rejected)
    last = admitted[-1].candidate.precision
    finalists = [one for one in admitted if one.candidate.precision == last]
    best = min(finalists, key=lambda one: (one.times(objective).p50_ms, one.drop))
    return Recommendation(best, _sentence(best, trials, objective), rejected)


def _objection(one: Trial, admitted: Sequence[Trial], objective: Objective, bound: float) -> str:
    if one.score.faults:
        return "; ".join(one.score.faults)
    if one.drop != one.drop or one.drop > bound:
        return f"loses {one.drop:.2f} points, more than {bound:g}"
    for other in sorted(admitted, key=lambda other: other.times(objective).p50_ms):
        verdict = faster(one.times(objective), other.times(objective))
        if verdict == "slower":
            return f"slower than {other.candidate.name}"
        if verdict != "faster":
            return f"too noisy to say whether it is faster than {other.candidate.name}"
    return ""


def _sentence(best: Trial, trials: Sequence[Trial], objective: Objective) -> str:
    times = best.times(objective)
    what = "a frame" if objective == "frame" else "the network"
    text = f"{best.candidate.name}: {ms(times.p50_ms)} ms for {what}"
    if best.score.miou is None:
        text += f", {100 * best.score.agreement:.2f} % of the pixels as the float model gives them"
        text += "; its accuracy is unknown without --dataset."
    else:
        text += f", mIoU {100 * best.score.miou:.2f} (drop {round(best.drop, 2) + 0.0:.2f})."
    unsure = [
        one.candidate.name for one in trials
        if one is not best and faster(one.times(objective), times) == "too noisy to say"
    ]  # fmt: skip
    if unsure:
        text += f" Too noisy to say whether it is faster than {', '.join(unsure)}."
    if times.relative_span > TOO_WIDE:
        low, high = times.span_ms
        text = f"The machine was noisy ({ms(low)} to {ms(high)} ms). {text}"
    return text
