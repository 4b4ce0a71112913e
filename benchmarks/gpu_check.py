"""Everything that needs an NVIDIA GPU to be seen, in one command.

    python benchmarks/gpu_check.py [--quick] [--only STEP ...] [MODEL.onnx ...]

    kernels     every kernel variant against the NumPy reference
    frames      whole frames against the CPU twin; backends; PyTorch, CuPy, Numba, PyCUDA
    engines     TensorRT engines of each precision against ONNX Runtime on the CPU
    speed       graphs on and off, 1 to 4 slots, what surrounds the network
    leaks       10,000 frames that change size
    sanitizer   the kernels under compute-sanitizer, where it is installed

Each step is a process of its own: one that crashes is a row. Without models it takes those in
../shared/models, else it makes a small one. Writes benchmarks/results/gpu-<name>.json. Exit code 2
on a machine without a GPU, 1 where something is wrong; what a GPU or library refuses is told in
words and is no failure.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import harness
from document import Document, Figure
from gpu.facts import gpu_facts, slug
from gpu.report import BAD, Options, Report, read_rows

from segedge.backends.registry import statuses
from segedge.engine.flavour import flavour_statuses
from segedge.engine.options import PRECISIONS
from segedge.machine.gpu import find_driver

INCLUDES = {
    "graphs": "frame on the GPU, call, graph replay, wait; outputs stay on the GPU",
    "plain": "the same with plain launches",
    "1 slot": "page-locked frame in, labels and overlay out, one frame in flight",
    "2 slots": "two in flight",
    "3 slots": "three in flight",
    "4 slots": "four in flight",
    "preprocess": "image on the GPU to the network's input, plain launches, gaps between them too",
    "network": "input to logits, as above",
    "tail": "logits to labels and overlay, as above",
    "engine": "tensor from the CPU, engine, logits to the CPU",
}
"""What a row's measured values hold."""
STEP_SECONDS = 3600
"""A step that takes longer hangs."""


STEPS = {
    "kernels": "gpu.suites",
    "frames": "gpu.suites",
    "engines": "gpu.engines",
    "speed": "gpu.speed",
    "leaks": "gpu.leaks",
    "sanitizer": "gpu.suites",
}
"""In this order; the module with a function of that name is imported only in its own process."""


def main() -> int:
    """Run the steps, print the verdict, write the results."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.step:
        report = Report(arguments.step, arguments.rows)
        with report.guard(arguments.step):
            step = getattr(importlib.import_module(STEPS[arguments.step]), arguments.step)
            step(report, Options.of(arguments))
        return 0
    driver = find_driver()
    rows = _refusals()
    if driver.gpu is None:
        print(f"gpu_check: nothing to check here: {driver.problem}", file=sys.stderr)
        return 2
    print(f"{driver.gpu}, driver for {driver.cuda_text}\n")
    for step in arguments.only or STEPS:
        rows += _run(step, sys.argv[1:])
    print()
    harness.save(_document(rows), quick=arguments.quick)
    return _verdict(rows)


def _document(rows: list[dict[str, Any]]) -> Document:
    """Measured values as figures; the rows, with their verdicts, as details."""
    driver = find_driver()
    figures = [
        Figure.of(row["name"], quantity, [values["rounds"]], unit=values["unit"])
        for row in rows
        for quantity, values in row.get("measured", {}).items()
    ]
    details = {
        **gpu_facts(driver),
        "rows": [{k: v for k, v in row.items() if k != "measured"} for row in rows],
    }
    return Document(f"gpu-{slug(driver)}", INCLUDES, tuple(figures), {}, details)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="fp32 and fp16")
    parser.add_argument("--flavour", default="auto")
    parser.add_argument(
        "--only", action="append", choices=list(STEPS), help="this step, repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="few and small cases")
    parser.add_argument("--frames", type=int, help="frames of the leak check")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return parser


class _Raw(argparse.RawDescriptionHelpFormatter):
    """Keep the docstring's lines."""


def _refusals() -> list[dict[str, Any]]:
    """What each flavour of TensorRT and each backend can do here, in words."""
    found = []
    for kind, states in (("flavour", flavour_statuses()), ("backend", statuses())):
        for state in states:
            print(f"{kind:<9} {state.name:<17} {state.version or '-':<12} {state.detail}")
            found.append({"step": kind, "verdict": "fact", **asdict(state)})
    return found


def _run(step: str, given: list[str]) -> list[dict[str, Any]]:
    """The rows of a step, and one more where its process did not end well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        command = [sys.executable, "-X", "faulthandler", str(Path(__file__)), *given]
        try:
            done = subprocess.run(
                [*command, "--step", step, "--rows", str(path)],
                stderr=subprocess.PIPE, text=True, check=False, timeout=STEP_SECONDS,
            )  # fmt: skip
            problem, said = _ending(done.returncode), done.stderr
        except subprocess.TimeoutExpired:
            problem, said = f"it hung: {STEP_SECONDS} s without an end", ""
        sys.stderr.write(said)
        if problem:
            last = said.strip().splitlines()[-1:] or ["nothing on stderr"]
            Report(step, path).add("the process", "error", f"{problem}: {last[0][:300]}")
        return read_rows(path)


def _ending(code: int) -> str:
    if code == 0:
        return ""
    return f"it was killed by signal {-code}" if code < 0 else f"it ended with code {code}"


def _verdict(rows: list[dict[str, Any]]) -> int:
    bad = [row for row in rows if row["verdict"] in BAD]
    for row in bad:
        print(f"{row['verdict']}: {row['step']}: {row['name']}")
    counts = {v: sum(row["verdict"] == v for row in rows) for v in ("right", "refused", "absent")}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), end="; ")
    print(f"{len(bad)} wrong" if bad else "nothing is wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
