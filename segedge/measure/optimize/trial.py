"""What a candidate is worth: how fast, and how close to the float model and to the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.errors import SegedgeError
from segedge.measure.bench.durations import Statistics
from segedge.measure.bench.results import Mode
from segedge.measure.bench.runner import run_worker
from segedge.measure.bench.worker.job import Job
from segedge.measure.datasets.datasets import Dataset
from segedge.measure.evaluate.agreement import compare
from segedge.measure.evaluate.evaluate import evaluate
from segedge.measure.optimize.candidates import Candidate, Skipped
from segedge.measure.optimize.options import MODES, TuneOptions
from segedge.segment.load import load

Say = Callable[[str], None]
Named = tuple[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Timing:
    """How fast a candidate is, and the backend in its own words."""

    times: dict[Mode, Statistics]
    description: str


@dataclass(frozen=True)
class Score:
    """How accurate a candidate is, in shares 0..1.

    Agreement is with the float model's labels, its ties left out; mIoU None without labels. Faults
    are NaN, one class everywhere, and the like, where the float model has none of it.
    """

    agreement: float
    miou: float | None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """A candidate with all that was measured of it.

    The drop is in points (of 100) below the float model: of mIoU, else of agreement. On the front
    nothing beats it in both accuracy and speed.
    """

    candidate: Candidate
    timing: Timing
    score: Score
    drop: float
    on_front: bool = False

    def times(self, objective: Mode) -> Statistics:
        """Of the frame or of the network."""
        return self.timing.times[objective]


def time_all(
    candidates: Sequence[Candidate], card: ModelCard, options: TuneOptions, *, say: Say
) -> tuple[dict[str, Timing], Skipped]:
    """Time each in a process of its own, in turn, in several rounds."""
    size = card.input_size
    frame = options.frame_size or Size(2 * size.height, 2 * size.width)
    answers: dict[str, list[dict[str, Any]]] = {one.name: [] for one in candidates}
    failed: Skipped = {}
    for turn in range(options.rounds):
        for one in candidates:
            if one.name in failed:
                continue
            say(f"round {turn + 1}/{options.rounds}  {one.name}")
            answer = run_worker(
                Job(str(one.artifact.path), one.backend, MODES, frame, options.seconds)
            )
            reason = _failure(answer)
            if reason:
                failed[one.name] = reason
            answers[one.name].append(answer)
    return {name: _timing(a) for name, a in answers.items() if name not in failed}, failed


def _failure(answer: dict[str, Any]) -> str:
    if "error" in answer:
        return str(answer["error"])
    refused = [str(f["refused"]) for f in answer["modes"].values() if "refused" in f]
    return "; ".join(refused)


def _timing(answers: Sequence[dict[str, Any]]) -> Timing:
    of = {m: Statistics.of([a["modes"][m]["samples_ms"] for a in answers]) for m in MODES}
    return Timing(of, answers[0]["description"])


def score_all(
    candidates: Sequence[Candidate], dataset: Dataset | None, images: Sequence[Named],
    options: TuneOptions, *, say: Say,
) -> tuple[dict[str, Score], Skipped]:  # fmt: skip
    """Score each on the artifact itself; the first is the float model."""
    scores: dict[str, Score] = {}
    failed: Skipped = {}
    base = candidates[0]
    with load(base.artifact.path, backend=base.backend) as reference:
        for one in candidates:
            say(f"scoring     {one.name}")
            try:
                with load(one.artifact.path, backend=one.backend) as segmenter:
                    if segmenter.checked is not None and not segmenter.checked.passed:
                        failed[one.name] = segmenter.checked.text
                        continue
                    miou = None
                    if dataset is not None:
                        found = evaluate(segmenter, dataset, boundary=False, limit=options.limit)
                        miou = found.miou
                    same = compare(reference, segmenter, images)
            except SegedgeError as error:
                failed[one.name] = str(error.headline)
                continue
            scores[one.name] = Score(same.agreement, miou, _faults(same.findings))
    return scores, failed


def _faults(findings: Sequence[str]) -> tuple[str, ...]:
    own = [text.removeprefix("the first ") for text in findings if text.startswith("the first ")]
    other = [text.removeprefix("the second ") for text in findings if text.startswith("the second")]
    return tuple(text for text in other if text not in own)
