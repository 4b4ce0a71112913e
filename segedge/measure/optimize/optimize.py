"""tune(): try the precisions and backends of this box, and recommend one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segedge.backends.openvino import openvino_abilities
from segedge.card.modelfile import require_card
from segedge.errors import BackendError, SegedgeError
from segedge.machine.environment import Environment
from segedge.measure.datasets.datasets import Dataset
from segedge.measure.optimize.candidates import Artifact, Candidate, Skipped, choose, needed, plan
from segedge.measure.optimize.front import pareto_front
from segedge.measure.optimize.make import (
    given,
    int8_options,
    make_fp16,
    make_int8,
    ranges_images,
)
from segedge.measure.optimize.options import Objective, TuneOptions, allowed_drop
from segedge.measure.optimize.recommend import Recommendation, recommend
from segedge.measure.optimize.trial import Named, Say, Score, Timing, Trial, score_all, time_all
from segedge.measure.optimize.video import VideoRate, check_video, video_rates


@dataclass(frozen=True)
class Tuning:
    """Everything of one `segedge optimize`."""

    trials: tuple[Trial, ...]
    """The most exact first; the first is the float model that the others are compared with."""
    recommendation: Recommendation
    skipped: Skipped
    options: TuneOptions
    bound: float
    """Allowed drop in points."""
    environment: Environment
    video: tuple[VideoRate, ...] = ()
    """Of the recommended one, where a video was given."""

    @property
    def command(self) -> str:
        """What runs the recommended one."""
        one = self.recommendation.trial.candidate
        return f"segedge run {shlex.quote(str(one.artifact.path))} VIDEO --backend {one.backend}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        chosen = self.recommendation
        return {
            "trials": [_plain(one) for one in self.trials],
            "recommended": chosen.trial.candidate.name,
            "sentence": chosen.sentence,
            "command": self.command,
            "rejected": chosen.rejected,
            "skipped": self.skipped,
            "objective": self.options.objective,
            "max_drop": self.bound,
            "environment": vars(self.environment),
            "video": [vars(rate) for rate in self.video],
        }


def _plain(one: Trial) -> dict[str, Any]:
    times = one.timing.times
    return {
        "name": one.candidate.name,
        "file": str(one.candidate.artifact.path),
        "size_bytes": one.candidate.artifact.size_bytes,
        "precision": one.candidate.precision,
        "backend": one.candidate.backend,
        "description": one.timing.description,
        "miou": one.score.miou,
        "drop": None if one.drop != one.drop else one.drop,
        "agreement": one.score.agreement,
        "faults": list(one.score.faults),
        **{f"{name}_ms": t.p50_ms for name, t in times.items()},
        **{f"{name}_interval_ms": list(t.span_ms) for name, t in times.items()},
        "pareto": one.on_front,
    }


def tune(
    models: Sequence[Path], options: TuneOptions, *, dataset: Dataset | None,
    images: Sequence[Named], calibrate: Path | None, folder: Path, say: Say = lambda text: None,
) -> Tuning:  # fmt: skip
    """Try every precision and backend on the float model and on files of it in other precisions.

    Agreement is measured on the images, mIoU on the data set's labels; int8 and fp16's ranges are
    calibrated on images of their own; files are made in the folder.
    """
    if options.video is not None:
        check_video(options.video, require_card(models[0]))
    ready, skipped = choose(options.backends)
    artifacts = given(models)
    environment = Environment.capture()
    if ready:
        artifacts += _made(
            artifacts, ready, options, calibrate, folder, skipped, say, environment.cpu_flags
        )
    candidates, left_out = plan(artifacts, ready, options.precisions, abilities=_abilities(ready))
    skipped |= left_out
    timings, failed = time_all(candidates, require_card(models[0]), options, say=say)
    skipped |= failed
    alive = [one for one in candidates if one.name in timings]
    if not alive or alive[0].precision != "fp32":
        raise BackendError(
            f"{models[0].name} could not be measured in fp32 on any backend",
            facts=skipped, fix="segedge doctor",
        )  # fmt: skip
    scores, failed = score_all(alive, dataset, images, options, say=say)
    trials = _trials(alive, timings, scores, options.objective)
    skipped |= failed
    bound = allowed_drop(options.max_drop, has_labels=dataset is not None)
    found = recommend(trials, objective=options.objective, bound=bound)
    rates: tuple[VideoRate, ...] = ()
    if options.video is not None:
        rates = video_rates(found.trial.candidate, options.video, say=say)
    return Tuning(tuple(trials), found, skipped, options, bound, environment, rates)


def _abilities(ready: Sequence[str]) -> frozenset[str]:
    """What OpenVINO computes in here, where it is tried."""
    if not any(name.partition(":")[0] == "openvino" for name in ready):
        return frozenset()
    return openvino_abilities()


def _made(
    artifacts: Sequence[Artifact], ready: Sequence[str], options: TuneOptions,
    calibrate: Path | None, folder: Path, skipped: Skipped, say: Say,
    cpu_flags: Sequence[str],
) -> list[Artifact]:  # fmt: skip
    """The files that are missing; what cannot be made is skipped with its reason."""
    missing = needed(ready, options.precisions) - {one.precision for one in artifacts}
    source, card = artifacts[0], require_card(artifacts[0].path)
    int8 = int8_options(ready, cpu_flags)
    makers: dict[str, Callable[[], Artifact]] = {
        "fp16": lambda: make_fp16(source, folder, ranges_images(card, calibrate)),
        "int8": lambda: make_int8(source, folder, calibrate, int8),
    }
    made = []
    for precision in ("fp16", "int8"):
        if precision not in missing:
            continue
        say(f"making      {precision}")
        try:
            made.append(makers[precision]())
            say(f"made        {made[-1].path.name}  {made[-1].note}".rstrip())
        except SegedgeError as error:
            fix = f" (fix: {error.fix})" if error.fix else ""
            skipped[precision] = error.headline + fix
    return made


def _trials(
    alive: Sequence[Candidate], timings: dict[str, Timing], scores: dict[str, Score],
    objective: Objective,
) -> list[Trial]:  # fmt: skip
    base = scores.get(alive[0].name)
    if base is None:
        raise BackendError(f"{alive[0].name} could not be scored")
    trials = []
    for one in alive:
        if one.name not in scores:
            continue
        score = scores[one.name]
        if score.miou is None or base.miou is None:
            drop = 100.0 * (1.0 - score.agreement)
        else:
            drop = 100.0 * (base.miou - score.miou)
        trials.append(Trial(one, timings[one.name], score, drop))
    front = pareto_front([(one.times(objective).p50_ms, one.drop) for one in trials])
    return [replace(one, on_front=flag) for one, flag in zip(trials, front, strict=True)]
