"""What every benchmark here shares: workers in processes of their own, in turn, and one document.

In one process the spinning thread pools of PyTorch, ONNX Runtime and OpenVINO slow each other
several-fold, so each variant runs in a process of its own; and since shared machines drift, the
variants take turns, several rounds of them. Warm-up, repeats and intervals are those of
`segedge bench`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from document import Document, Figure, write_document

from segedge.machine.environment import Environment
from segedge.measure.bench.durations import repeat, warm_up

Samples = dict[str, list[float]]
"""Quantity to the values of one round."""
WORKER_SECONDS = 1800
"""A worker that takes longer hangs."""
AT_LEAST = 5
QUICK = {"rounds": 1, "seconds": 0.05}
"""What ``--quick`` makes of the options: enough to see that everything runs."""


class Stopwatch:
    """Milliseconds between laps."""

    def __init__(self) -> None:
        """Start."""
        self._last_ns = time.perf_counter_ns()

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        now_ns = time.perf_counter_ns()
        elapsed = (now_ns - self._last_ns) / 1e6
        self._last_ns = now_ns
        return elapsed


def measure(step: Callable[[], Mapping[str, float]], *, seconds: float) -> Samples:
    """The stages of each repeat, after a warm-up that does not count.

    Args:
        step: Does the work once and returns stage to milliseconds.
        seconds: Length of the repeats; the warm-up may take as long before it must be steady.
    """
    rows: list[Mapping[str, float]] = []
    warm_up(step, seconds=seconds)
    repeat(lambda: rows.append(step()), seconds=seconds, at_least=AT_LEAST)
    stages = [stage for stage in rows[0] if all(stage in row for row in rows)]
    return {stage: [row[stage] for row in rows] for stage in stages}


@dataclass(frozen=True)
class Turns:
    """What the variants gave, round after round."""

    samples: dict[str, list[Samples]] = field(default_factory=dict)
    """Variant to its rounds."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Variant to the reason why it has no figures."""

    def figures(self, units: Mapping[str, str], **parameters: Any) -> list[Figure]:
        """A figure for each variant and quantity.

        Args:
            units: Quantity to unit; what is not named is in milliseconds.
            parameters: What all of them were measured with.
        """
        return [
            Figure.of(
                variant,
                quantity,
                [samples[quantity] for samples in rounds],
                unit=units.get(quantity, "ms"),
                parameters=parameters,
            )
            for variant, rounds in self.samples.items()
            for quantity in rounds[0]
            if all(quantity in samples for samples in rounds)
        ]

    def median(self, variant: str, quantity: str) -> float | None:
        """The median over all rounds; None where there is none."""
        rounds = self.samples.get(variant)
        if not rounds or any(quantity not in samples for samples in rounds):
            return None
        return Figure.of(variant, quantity, [samples[quantity] for samples in rounds]).median


def run_in_turn(
    script: Path, variants: Sequence[str], *, rounds: int, arguments: Sequence[str] = ()
) -> Turns:
    """Run ``script --variant V`` for each variant in turn, ``rounds`` times.

    A variant whose worker fails is skipped with its last line, loudly, and does not run again.
    """
    turns = Turns()
    for turn in range(rounds):
        for variant in [name for name in variants if name not in turns.skipped]:
            print(f"round {turn + 1}/{rounds}  {variant}", file=sys.stderr, flush=True)
            answer = _answer(run_worker(script, variant, arguments), variant, turns)
            if answer is not None:
                turns.samples.setdefault(variant, []).append(answer)
    for variant in turns.skipped:
        turns.samples.pop(variant, None)
    return turns


def run_worker(script: Path, variant: str, arguments: Sequence[str]) -> dict[str, Any] | str:
    """The last line of a worker's stdout as JSON, or why there is none."""
    command = [sys.executable, str(script), "--variant", variant, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=WORKER_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {WORKER_SECONDS} s"
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with code {done.returncode}"]
        return last[0][:300]
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _answer(answer: dict[str, Any] | str, variant: str, turns: Turns) -> Samples | None:
    if isinstance(answer, str):
        print(f"  {variant} skipped: {answer}", file=sys.stderr, flush=True)
        turns.skipped[variant] = answer
        return None
    return {quantity: _listed(values) for quantity, values in answer.items()}


def _listed(values: Any) -> list[float]:
    return list(values) if isinstance(values, list) else [float(values)]


def parser_of(
    document: str | None, *, rounds: int, seconds: float, threads: int = 0
) -> argparse.ArgumentParser:
    """A parser with the options that the benchmarks share; ``--threads`` where some are said."""
    parser = saving_parser(document, quick="tiny and short: does it run?")
    parser.add_argument("--variant", help=argparse.SUPPRESS)  # the worker's side of run_in_turn
    parser.add_argument("--rounds", type=positive(int), default=rounds, help="turns of each")
    parser.add_argument(
        "--seconds", type=positive(float), default=seconds, help="length of each in each round"
    )
    if threads:
        from segedge.machine.processors import usable_processors

        parser.add_argument(
            "--threads", type=positive(int), default=min(threads, usable_processors())
        )
    return parser


def saving_parser(document: str | None, *, quick: str = "") -> argparse.ArgumentParser:
    """A parser with ``--save``, and ``--quick`` where it is said what that does."""
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if quick:
        parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    return parser


def parsed(parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> Any:
    """The options; ``--quick`` overrides rounds and seconds."""
    options = parser.parse_args(words)
    if options.quick:
        vars(options).update(QUICK)
    return options


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """A number above zero, for argparse."""

    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return number


def say_machine(environment: Environment) -> None:
    """The machine, and that it is busy where it is: figures of a busy machine mean little."""
    print(f"{environment.line}, {environment.date}")
    if environment.was_busy:
        print(
            f"warning: the machine is busy: load {environment.load_1_min:g} on "
            f"{environment.processors} processors"
        )


@dataclass(frozen=True)
class Run:
    """One run of a benchmark: what was asked for, and the machine before anything was measured."""

    options: Any
    environment: Environment

    @classmethod
    def begin(cls, options: Any) -> Run:
        """Look at the machine, and say what it is."""
        environment = Environment.capture()
        say_machine(environment)
        return cls(options, environment)

    def in_turn(
        self, script: str, variants: Sequence[str], *, carry: Sequence[str] = (),
        also: Mapping[str, Any] | None = None,
    ) -> Turns:  # fmt: skip
        """As `run_in_turn`; the workers get the options of these names, and others by name."""
        given = {**{name: getattr(self.options, name) for name in carry}, **(also or {})}
        arguments = []
        for name, value in given.items():
            if value is not None and value is not False:
                arguments += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return run_in_turn(Path(script), variants, rounds=self.options.rounds, arguments=arguments)

    def write(
        self, name: str, includes: dict[str, str], figures: Sequence[Figure],
        settings: dict[str, Any], *, details: dict[str, Any] | None = None,
        skipped: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """The document of this run: made in any case, written where ``--save`` asks for it."""
        document = Document(
            name, includes, tuple(figures), settings, details or {}, dict(skipped or {}),
            self.environment,
        )  # fmt: skip
        if self.options.save:
            save(document, quick=getattr(self.options, "quick", False))


def save(document: Document, *, quick: bool = False) -> Path:
    """Write ``results/NAME.json``, or ``NAME-quick.json``, and say so."""
    path = write_document(document, suffix="-quick" * quick)
    print(f"wrote {path}")
    return path
