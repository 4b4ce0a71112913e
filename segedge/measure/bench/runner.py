"""Contenders side by side: each in its own process and in turn, so that drift hits all alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segedge.backends.remote.address import address_text, is_address
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.modelfile import file_sha256, require_card
from segedge.card.plain import from_plain
from segedge.errors import BackendError, UsageError, unknown_name_error
from segedge.machine.environment import Environment
from segedge.machine.files import staged
from segedge.measure.bench.durations import Statistics
from segedge.measure.bench.names import Contender, choose_backends
from segedge.measure.bench.results import MODES, Mode, Results, Row, Subject
from segedge.measure.bench.settings import Setting, settings
from segedge.measure.bench.watch import Observed
from segedge.measure.bench.worker.job import Job, encode_job
from segedge.options.motion import Motion

__all__ = ["BenchOptions", "bench", "choose_backends", "run_worker", "trace"]

_GRACE_SECONDS = 600.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class BenchOptions:
    """What to measure."""

    backends: tuple[str, ...] = ()
    """Names of `segedge.measure.bench.names`; empty: all that are ready here."""
    frame_sizes: tuple[Size, ...] = ()
    """Empty: twice the network's input size."""
    network_sizes: tuple[Size, ...] = ()
    """Empty: the card's; others where the model's size is dynamic."""
    batches: tuple[int, ...] = (1,)
    """Of the mode ``network``; above 1 where the model's batch is dynamic."""
    modes: tuple[Mode, ...] = ("network", "frame")
    rounds: int = 3
    seconds: float = 2.0
    """Target duration of each mode in each round."""
    program: Path | None = None
    """A ``torch.export`` program of the same network, for the backends of PyTorch."""
    video: Path | None = None
    """What the mode ``video`` and a timeline decode."""
    motion: Motion | None = None
    """Of the mode ``motion``."""

    def __post_init__(self) -> None:
        for name, value in (("--rounds", self.rounds), ("--seconds", self.seconds)):
            if not 0 < value < 1e6:
                raise UsageError(
                    f"{name} must be positive",
                    facts={"found": f"{value:g}"},
                    fix=f"{name} {'3' if name == '--rounds' else '2'}",
                )
        for batch in self.batches:
            if batch < 1:
                raise UsageError(
                    "--batch must be positive", facts={"found": str(batch)}, fix="--batch 1,2,4,8"
                )
        for mode in self.modes:
            if mode not in MODES:
                raise unknown_name_error("mode", mode, MODES)
        if not self.batches or not self.modes:
            raise UsageError("nothing to measure: no batch or no mode")
        if "video" in self.modes and self.video is None:
            raise UsageError("the mode video needs a video", fix="--source VIDEO.mp4")
        if "motion" in self.modes and self.motion is None:
            raise UsageError(
                "the mode motion needs to know which frames the network sees", fix="--every 4"
            )
        for name in self.backends:
            if name != "all":
                Contender.parse(name)


def bench(model: Path, options: BenchOptions, *, say: Say = lambda text: None) -> Results:
    """Measure an ONNX file with its card on each backend.

    Told a line before each worker and for each backend that is skipped.
    """
    _check_is_file(model)
    card = read_card(model)
    if options.motion is not None:
        options.motion.check(card)
    _check_files(options)
    chosen, skipped = settings(
        card, options.modes, networks=options.network_sizes, frames=options.frame_sizes,
        batches=options.batches,
    )  # fmt: skip
    if not chosen:
        raise BackendError(f"nothing of {model.name} can be measured", facts=skipped)
    environment = Environment.capture()
    ready, missing = choose_backends(options.backends, has_program=options.program is not None)
    run = _Run(model, options, chosen, {**missing, **skipped}, say)
    run.rounds(ready)
    rows = [row for setting in chosen for name in ready for row in run.rows(name, setting)]
    if not rows:
        fix = f"segedge inspect {model.name}, and segedge doctor for the libraries"
        raise BackendError(f"no backend could measure {model.name}", facts=run.skipped, fix=fix)
    for name, reason in run.skipped.items():
        say(f"skipped     {name}: {reason}")
    subject = Subject(
        model.name, file_sha256(model), json.loads(card.to_json()),
        str(chosen[0].network), str(chosen[0].frame), options.rounds, options.seconds,
    )  # fmt: skip
    rows.sort(key=lambda row: MODES.index(row.mode))
    return Results(subject, environment, tuple(rows), run.skipped, run.checked)


def _check_is_file(model: Path) -> None:
    if is_address(model):
        raise UsageError(
            f"bench measures files on this machine, and {address_text(model)} is on a server",
            fix=f"segedge run {address_text(model)} video.mp4 prints what its frames take",
        )


def trace(model: Path, options: BenchOptions, path: Path, *, say: Say = lambda text: None) -> str:
    """Write a timeline of a pipelined run in Chrome's trace format; the backend that was traced.

    The first of the options' backends and sizes, with their video where they have one.
    """
    card = read_card(model)
    _check_files(options)
    ready, missing = choose_backends(options.backends, has_program=options.program is not None)
    if not ready:
        raise BackendError("no backend is ready for a timeline", facts=missing)
    chosen, refused = settings(
        card, ("rate",), networks=options.network_sizes, frames=options.frame_sizes, batches=(1,)
    )
    if not chosen:
        raise BackendError(f"nothing of {model.name} can be traced", facts=refused)
    say(f"timeline    {ready[0]}")
    with staged(path) as part:
        job = _job(model, options, ready[0], chosen[0], modes=("trace",), timeline=part)
        answer = run_worker(job)
        found = answer.get("error") or answer["modes"]["trace"].get("refused")
        if found:
            raise BackendError(f"{ready[0]} could not be traced", facts={"found": found})
    return ready[0]


def read_card(model: Path) -> ModelCard:
    """The card of an ONNX file."""
    if model.suffix.lower() != ".onnx":
        raise UsageError(
            "segedge bench takes an ONNX file with its card",
            facts={"found": model.name},
            fix="segedge export makes one: docs/export.md; a torch program goes with --program",
        )
    return require_card(model)


def _check_files(options: BenchOptions) -> None:
    for option, path in (("--program", options.program), ("--source", options.video)):
        if path is not None and not path.is_file():
            raise UsageError(f"{option} {path} does not exist")


class _Run:
    """Answers of the workers as they come in."""

    def __init__(
        self, model: Path, options: BenchOptions, chosen: Sequence[Setting],
        skipped: dict[str, str], say: Say,
    ) -> None:  # fmt: skip
        self._model, self._options, self._chosen, self._say = model, options, chosen, say
        self.skipped = skipped
        self._answers: dict[tuple[str, Setting], list[dict[str, Any]]] = {}

    def rounds(self, names: Sequence[str]) -> None:
        """Everyone in turn, several times."""
        for turn in range(self._options.rounds):
            for setting in self._chosen:
                for name in names:
                    if self._wanted(name, setting):
                        label = self._label(name, setting)
                        self._say(f"round {turn + 1}/{self._options.rounds}  {label}")
                        self._one(name, setting)

    def _wanted(self, name: str, setting: Setting) -> bool:
        if name in self.skipped or self._label(name, setting) in self.skipped:
            return False
        is_plain = setting.batch == 1 and setting.network == self._chosen[0].network
        if Contender.parse(name).needs_program and not is_plain:
            self.skipped[self._label(name, setting)] = (
                "a torch program is measured at the size and batch that it was traced with"
            )
            return False
        return True

    def _one(self, name: str, setting: Setting) -> None:
        answer = run_worker(_job(self._model, self._options, name, setting))
        if "error" not in answer:
            self._answers.setdefault((name, setting), []).append(answer)
            for mode, figures in answer["modes"].items():
                if "refused" in figures:
                    self.skipped[f"{self._label(name, setting)} {mode}"] = figures["refused"]
        else:
            first = setting is self._chosen[0]
            self.skipped[name if first else self._label(name, setting)] = answer["error"]

    def _label(self, name: str, setting: Setting) -> str:
        return name + setting.beside(self._chosen[0])

    @property
    def checked(self) -> dict[str, dict[str, Any]]:
        """What came of the proof on each backend that was asked, at the first size."""
        return {
            name: answers[0]["checked"]
            for (name, setting), answers in self._answers.items()
            if setting is self._chosen[0] and answers[0].get("checked") is not None
        }

    def rows(self, name: str, setting: Setting) -> list[Row]:
        """One row a mode, over all rounds; none where a round failed."""
        answers = self._answers.get((name, setting), [])
        if not answers or name in self.skipped or self._label(name, setting) in self.skipped:
            return []
        every = "" if self._options.motion is None else str(self._options.motion.every)
        return _rows(name, answers, setting, every)


def _job(
    model: Path, options: BenchOptions, name: str, setting: Setting, *,
    modes: tuple[str, ...] | None = None, timeline: Path | None = None,
) -> Job:  # fmt: skip
    return Job(
        str(model), name, modes or setting.modes, setting.frame, options.seconds,
        batch=setting.batch, network=setting.network,
        program=str(options.program) if options.program else None,
        video=str(options.video) if options.video else None,
        trace=str(timeline) if timeline else None,
        motion=options.motion,
    )  # fmt: skip


def run_worker(job: Job) -> dict[str, Any]:
    """Measure in a fresh process; what goes wrong there comes back under ``error``."""
    limit = _GRACE_SECONDS + 10 * job.seconds
    try:
        with tempfile.TemporaryDirectory(prefix="segedge-bench-") as folder:
            code, said, told = _ended(encode_job(replace(job, folder=folder)), limit)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {limit:.0f} s"}
    if code != 0:
        last = told.strip().splitlines()[-1:] or ["no message"]
        return {"error": f"the worker ended with code {code}: {last[0]}"}
    answer: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return answer


def _ended(job: str, limit: float) -> tuple[int, str, str]:
    """A worker's exit code and what it said; it does not outlive this call.

    That is what `subprocess.run` does not see to when Ctrl-C ends it: it waits for no one then.
    """
    command = [sys.executable, "-m", "segedge.measure.bench.worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            said, told = process.communicate(job, timeout=limit)
        except BaseException:
            process.kill()
            process.wait()
            raise
    return process.returncode, said, told


def _rows(name: str, answers: Sequence[dict[str, Any]], setting: Setting, every: str) -> list[Row]:
    rows = []
    for mode in answers[0]["modes"]:
        figures = [answer["modes"][mode] for answer in answers]
        if any("refused" in figure for figure in figures):
            continue
        frames = [frame for figure in figures for frame in figure["stages"]]
        builds = [a["build_ms"] for a in answers if a["build_ms"] is not None]
        memory = [a["device_memory_mb"] for a in answers if a["device_memory_mb"] is not None]
        rows.append(
            Row(
                backend=name,
                mode=mode,
                description=answers[0]["description"],
                times=Statistics.of([figure["samples_ms"] for figure in figures]),
                stages_ms=_stages(frames) if frames else {},
                is_steady=all(figure["is_steady"] for figure in figures),
                open_ms=statistics.median(answer["open_ms"] for answer in answers),
                first_frame_ms=statistics.median(answer["first_frame_ms"] for answer in answers),
                peak_memory_mb=max(answer["peak_memory_mb"] for answer in answers),
                batch=setting.batch if mode == "network" else 1,
                network_size=str(setting.network),
                frame_size="of the video" if mode == "video" else str(setting.frame),
                import_ms=statistics.median(answer["import_ms"] for answer in answers),
                build_ms=builds[0] if builds else None,
                device_memory_mb=max(memory) if memory else None,
                observed=Observed.join([from_plain(Observed, f["observed"]) for f in figures]),
                every=every if mode == "motion" else "",
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
