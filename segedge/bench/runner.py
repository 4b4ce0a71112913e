"""Backends side by side: each in its own process and in turn, so that drift hits all alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.backends.registry import BACKENDS, statuses
from segedge.bench.environment import Environment
from segedge.bench.measure import Statistics
from segedge.bench.results import Mode, Results, Row, Subject
from segedge.bench.worker import Job, encode_job
from segedge.card import ModelCard
from segedge.errors import BackendError, CardError, UsageError, unknown_name_error
from segedge.geometry import Size
from segedge.modelfile import file_sha256, read_metadata

_GRACE_SECONDS = 600.0


@dataclass(frozen=True)
class BenchOptions:
    """What to measure."""

    backends: tuple[str, ...] = ()
    """Empty: all that are ready here."""
    frame_size: Size | None = None
    """None: twice the network's input size."""
    modes: tuple[Mode, ...] = ("network", "frame")
    rounds: int = 3
    seconds: float = 2.0
    """Target duration of each mode in each round."""

    def __post_init__(self) -> None:
        for name, value in (("--rounds", self.rounds), ("--seconds", self.seconds)):
            if not 0 < value < 1e6:
                raise UsageError(
                    f"{name} must be positive",
                    facts={"found": f"{value:g}"},
                    fix=f"{name} {'3' if name == '--rounds' else '2'}",
                )
        for name in self.backends:
            if name.partition(":")[0] not in BACKENDS:
                raise unknown_name_error("backend", name.partition(":")[0], list(BACKENDS))


def bench(
    model: Path, options: BenchOptions, *, say: Callable[[str], None] = lambda text: None
) -> Results:
    """Measure a model on each backend.

    Args:
        model: An ONNX file that carries its card.
        options: What to measure.
        say: Told a line before each worker and for each backend that is skipped.

    Raises:
        UsageError, ModelError: The file is no ONNX file with a card.
        BackendError: Not one backend could run it.
    """
    card = _card(model)
    frame = options.frame_size or Size(2 * card.input_height, 2 * card.input_width)
    environment = Environment.capture()
    ready, skipped = choose_backends(options.backends)
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in ready}
    for turn in range(options.rounds):
        for name in [name for name in ready if name not in skipped]:
            say(f"round {turn + 1}/{options.rounds}  {name}")
            size = (frame.height, frame.width)
            answer = run_worker(Job(str(model), name, options.modes, *size, options.seconds))
            if "error" in answer:
                skipped[name] = _reason(answer["error"])
            else:
                answers[name].append(answer)
    for name, reason in skipped.items():
        say(f"skipped     {name}: {reason}")
    rows = [row for name in ready if name not in skipped for row in _rows(name, answers[name])]
    for name, answer in ((n, a[0]) for n, a in answers.items() if a and n not in skipped):
        for mode, figures in answer["modes"].items():
            if "refused" in figures:
                skipped[f"{name} {mode}"] = figures["refused"]
    if not rows:
        fix = f"segedge inspect {model.name}, and segedge doctor for the libraries"
        raise BackendError(f"no backend could measure {model.name}", facts=skipped, fix=fix)
    subject = Subject(
        model.name, file_sha256(model), json.loads(card.to_json()),
        str(card.input_size), str(frame), options.rounds, options.seconds,
    )  # fmt: skip
    return Results(subject, environment, tuple(rows), skipped)


def _card(model: Path) -> ModelCard:
    if model.suffix.lower() != ".onnx":
        raise UsageError(
            "segedge bench takes an ONNX file with its card",
            facts={"found": model.name},
            fix="segedge export makes one: docs/export.md",
        )
    card = ModelCard.from_metadata(read_metadata(model))
    if card is None:
        raise CardError(
            f"{model.name} carries no card: its classes and preprocessing are unknown",
            fix=f"segedge export {model} --classes cityscapes -o {model.stem}-card.onnx",
        )
    return card


def choose_backends(asked: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The backends to measure, and why the others are not."""
    found = {status.name: status for status in statuses()}
    wanted = list(dict.fromkeys(asked)) or [n for n, entry in BACKENDS.items() if entry.auto]
    ready, skipped = [], {}
    for name in wanted:
        status = found[name.partition(":")[0]]
        if status.ready:
            ready.append(name)
        else:
            skipped[name] = status.detail + (f" (fix: {status.fix})" if status.fix else "")
    return ready, skipped


def run_worker(job: Job) -> dict[str, Any]:
    """Measure in a fresh process; what goes wrong there comes back under ``error``."""
    command = [sys.executable, "-m", "segedge.bench.worker"]
    limit = _GRACE_SECONDS + 10 * job.seconds
    try:
        done = subprocess.run(
            command, input=encode_job(job), capture_output=True, text=True, check=False,
            timeout=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": {"headline": f"no answer within {limit:.0f} s"}}
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"error": {"headline": f"the worker ended with code {done.returncode}: {last[0]}"}}
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _reason(error: dict[str, Any]) -> str:
    facts = "".join(f"; {label} {text}" for label, text in (error.get("facts") or {}).items())
    return f"{error['headline']}{facts}"


def _rows(name: str, answers: Sequence[dict[str, Any]]) -> list[Row]:
    """One row a mode, over all rounds."""
    rows = []
    for mode, first in answers[0]["modes"].items():
        if "refused" in first:
            continue
        figures = [answer["modes"][mode] for answer in answers]
        frames = [frame for figure in figures for frame in figure["stages"]]
        rows.append(
            Row(
                backend=name,
                mode=mode,
                description=answers[0]["description"],
                times=Statistics.of([figure["samples_ms"] for figure in figures]),
                stages_ms=_stages(frames) if mode == "frame" else {},
                is_steady=all(figure["is_steady"] for figure in figures),
                open_ms=statistics.median(answer["open_ms"] for answer in answers),
                first_frame_ms=statistics.median(answer["first_frame_ms"] for answer in answers),
                peak_memory_mb=max(answer["peak_memory_mb"] for answer in answers),
            )
        )
    return rows


def _stages(frames: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each stage that every frame has."""
    return {
        stage: statistics.median(frame[stage] for frame in frames)
        for stage in frames[0]
        if all(stage in frame for frame in frames)
    }
