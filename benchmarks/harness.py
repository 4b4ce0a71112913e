"""What every benchmark here shares: workers in processes of their own, in turn, and one schema.

In one process the spinning thread pools of PyTorch, ONNX Runtime and OpenVINO slow each other
several-fold, so each variant runs in a process of its own; and since shared machines drift, the
variants take turns, several rounds of them, and medians over the rounds are compared.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segedge.bench.environment import Environment
from segedge.bench.results import write_text

RESULTS = Path(__file__).parent / "results"
SCHEMA = 1


def environment() -> dict[str, Any]:
    """Machine and library versions that a figure belongs to."""
    return dataclasses.asdict(Environment.capture())


def measure(
    step: Callable[[], dict[str, float]], *, warm_up: int, repeats: int
) -> dict[str, float]:
    """Median of each stage over the repeats, after a warm-up that does not count.

    Args:
        step: Does one frame and returns stage name to milliseconds.
        warm_up: Frames before the first counted one.
        repeats: Counted frames.
    """
    for _ in range(warm_up):
        step()
    rows = [step() for _ in range(repeats)]
    return {stage: statistics.median(row[stage] for row in rows) for stage in rows[0]}


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


def run_in_turn(
    script: Path, variants: Sequence[str], *, rounds: int, arguments: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Run ``script --variant V`` for each variant in turn, ``rounds`` times.

    Returns:
        Variant to stage to the median over the rounds; a variant whose worker fails is reported on
        stderr with its last line and left out.
    """
    collected: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    for turn in range(rounds):
        for variant in variants:
            print(f"round {turn + 1}/{rounds}  {variant}", file=sys.stderr, flush=True)
            row = _run_worker(script, variant, arguments)
            if row is not None:
                collected[variant].append(row)
    return {
        variant: {stage: statistics.median(r[stage] for r in rows) for stage in rows[0]}
        for variant, rows in collected.items()
        if rows
    }


def _run_worker(script: Path, variant: str, arguments: Sequence[str]) -> dict[str, float] | None:
    command = [sys.executable, str(script), "--variant", variant, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        print(f"  {variant} skipped: {reason[0]}", file=sys.stderr)
        return None
    row: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def write_results(name: str, figures: dict[str, Any]) -> Path:
    """Write ``results/NAME.json`` with the environment beside the figures."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"schema": SCHEMA, "benchmark": name, "environment": environment(), **figures}
    write_text(path, json.dumps(document, indent=2) + "\n")
    return path
