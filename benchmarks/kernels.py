"""Each CUDA kernel against its floor, and against the usual way in PyTorch.

    python benchmarks/kernels.py [--quick] [--size 4K ...] [--logits street|noise]

The floor is the time in which the GPU copies as many bytes as the kernel must read and write, by
the copy bandwidth measured in the same run. Launches are captured in a graph that goes round more
buffers than the second-level cache holds ("us"), and over one set of buffers ("hot"). PyTorch,
where it is installed with CUDA, does the same task eagerly in the same process. Prints a Markdown
table and writes benchmarks/results/kernels-<gpu>.json. Exit code 2 without a GPU, 1 where a result
differs from PyTorch's or a case failed.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import harness
import numpy as np
from document import Document, Figure
from gpu.cases import LOGITS, PREPROCESS, SIZES, TAILS, Case, preprocess_case, tail_case
from gpu.clock import Clock, cache_bytes, copy_bandwidth
from gpu.facts import gpu_facts, slug
from gpu.torch_way import agreement, open_torch, torch_round_microseconds, torch_step

from segedge.card.geometry import Size
from segedge.cuda.runtime.device import Device
from segedge.machine.gpu import find_driver

HEAD = "| kernel | frame | classes | type | us | hot | floor | of copy | PyTorch | ratio | same |"
INCLUDES = {
    "from memory": "one call, replayed in a graph that goes round more buffers than caches hold",
    "from caches": "the same on one set of buffers",
    "PyTorch": "the same task eagerly, one set of buffers, kernel launches included",
}
ROUNDS = tuple(INCLUDES)
"""Keys of a row that hold the values of all rounds."""
MOST_SETS = 64
WORST_AGREEMENT = 0.99
"""Share of pixels that must equal PyTorch's: ties and rounding make up the rest."""


@dataclass(frozen=True)
class Bench:
    """What all cases are measured with."""

    device: Device
    clock: Clock
    bandwidth: float
    """Bytes a second, read and written, of a copy."""
    torch: Any
    quick: bool

    def sets(self, case: Case) -> int:
        """How many sets of buffers are more than the cache holds, and fit."""
        free = self.device.memory_bytes()[0]
        wanted = 2 * cache_bytes(self.device) // case.set_bytes + 2
        fitting = max(free // 4 // case.set_bytes, 1)
        return int(max(1, min(wanted, fitting, 2 if self.quick else MOST_SETS)))


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", action="append", choices=list(SIZES), help="repeatable")
    parser.add_argument("--logits", choices=list(LOGITS), default="street")
    parser.add_argument("--quick", action="store_true", help="a tiny frame, for a try")
    options = parser.parse_args()
    driver = find_driver()
    if driver.gpu is None:
        print(f"kernels: nothing to measure here: {driver.problem}", file=sys.stderr)
        return 2
    bench = open_bench(quick=options.quick)
    print(f"{driver.gpu}; a copy moves {bench.bandwidth / 1e9:.0f} GB/s, read and written\n")
    sizes = options.size or list(SIZES)
    if options.quick:
        SIZES["tiny"], sizes = Size(64, 128), ["tiny"]
    print(HEAD + "\n" + "|---" * (HEAD.count("|") - 1) + "|")
    rows = [measured(bench, case) for case in cases(bench, sizes, options.logits)]
    targets = judged(rows)
    print()
    harness.save(document_of(bench, rows, targets, options.logits), quick=options.quick)
    bad = [row for row in rows if "problem" in row or row.get("same", 1.0) < WORST_AGREEMENT]
    return 1 if bad else 0


def document_of(
    bench: Bench, rows: list[dict[str, Any]], targets: list[dict[str, Any]], logits: str
) -> Document:
    """Times and their spread as figures, everything that is told beside them as details."""
    driver = find_driver()
    details = {
        **gpu_facts(driver), "copy_bytes_per_second": bench.bandwidth, "targets": targets,
        "rows": [{k: v for k, v in row.items() if k not in ROUNDS} for row in rows],
        "notes": sorted(set(bench.clock.notes)),
    }  # fmt: skip
    figures = [
        Figure.of(
            row["kernel"], quantity, [row[quantity]], unit="us",
            parameters={key: row[key] for key in ("frame", "classes", "dtype")},
        )
        for row in rows
        for quantity in ROUNDS
        if quantity in row
    ]  # fmt: skip
    settings = {"logits": logits, "quick": bench.quick}
    return Document(f"kernels-{slug(driver)}", INCLUDES, tuple(figures), settings, details)


def open_bench(*, quick: bool) -> Bench:
    """The GPU, a clock, and the copy bandwidth that floors are made of."""
    device = Device.open()
    clock = Clock(device, rounds=2 if quick else 7)
    size_bytes = 1 << 20 if quick else min(512 << 20, device.memory_bytes()[0] // 8)
    return Bench(device, clock, copy_bandwidth(device, clock, size_bytes), open_torch(), quick)


def cases(bench: Bench, sizes: list[str], scene: str) -> Iterator[Case]:
    """All combinations, made one after the other: their memory is not held together."""
    device, stream = bench.device, bench.clock.stream
    for size in sizes:
        for dtype in ("float16", "float32"):
            for name in PREPROCESS:
                yield preprocess_case(device, stream, name, size, dtype)
            for classes in (19,) if bench.quick else (19, 150):
                for name in TAILS:
                    yield tail_case(device, stream, name, size, dtype, classes=classes, scene=scene)


def measured(bench: Bench, case: Case) -> dict[str, Any]:
    """One row, printed; a case that fails is a row, too."""
    row: dict[str, Any] = {
        "kernel": case.name, "frame": case.size, "classes": case.classes, "dtype": case.dtype,
        "floor_bytes": case.floor_bytes, "floor_us": case.floor_bytes / bench.bandwidth * 1e6,
        "uniform_cells": case.host.get("uniform"),
    }  # fmt: skip
    try:
        row |= _ours(bench, case)
        row |= _theirs(bench, case)
    except Exception as error:  # the other cases go on
        traceback.print_exc()
        row["problem"] = f"{type(error).__name__}: {error}"
    print(table_line(row), flush=True)
    gc.collect()
    return row


def _ours(bench: Bench, case: Case) -> dict[str, Any]:
    works = [case.new_work() for _ in range(bench.sets(case))]
    rounds = bench.clock.round_microseconds(works)
    hot_rounds = bench.clock.round_microseconds(works[:1])
    cold, hot = statistics.median(rounds), statistics.median(hot_rounds)
    share = case.floor_bytes / bench.bandwidth * 1e6 / cold
    found = {"us": cold, "hot_us": hot, "share": share, "sets": len(works)}
    return {**found, "from memory": rounds, "from caches": hot_rounds}


def _theirs(bench: Bench, case: Case) -> dict[str, Any]:
    """PyTorch's time and whether it gives the same; nothing where it has no way, or no memory."""
    torch = bench.torch
    step = torch_step(torch, case) if torch else None
    if step is None:
        return {}
    try:
        theirs = step().cpu().numpy()
        rounds = torch_round_microseconds(torch, step, rounds=2 if bench.quick else 7)
    except torch.cuda.OutOfMemoryError:
        return {"torch": "out of memory"}
    finally:
        torch.cuda.empty_cache()
    same = agreement(case.result(), np.asarray(theirs))
    return {"torch_us": statistics.median(rounds), "same": same, "PyTorch": rounds}


def table_line(row: dict[str, Any]) -> str:
    """One line of the Markdown table."""

    def number(key: str, form: str) -> str:
        return format(row[key], form) if row.get(key) is not None else "-"

    ratio = row["torch_us"] / row["us"] if "torch_us" in row else None
    cells = [
        row["kernel"], row["frame"], str(row["classes"] or "-"), row["dtype"],
        row.get("problem") or number("us", ".1f"), number("hot_us", ".1f"),
        number("floor_us", ".1f"), number("share", ".0%"),
        row.get("torch") or number("torch_us", ".0f"), f"{ratio:.1f}" if ratio else "-",
        number("same", ".3%"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The targets of the CUDA runtime on a data-centre GPU, and what was found; printed."""
    found = []
    for target, good, values in _targets(rows):
        if values:
            met = all(good(value) for value in values)
            found.append({"target": target, "found": values, "met": met})
            shown = f"{min(values):.2f} to {max(values):.2f}"
            print(f"\n{'met    ' if met else 'not met'}  {target}: {shown}", end="")
    print()
    return found


def _targets(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Any, list[float]]]:
    timed = [row for row in rows if "us" in row]
    at_4k = [row["share"] for row in timed if row["frame"] == "4K"]
    yield "at 4K, share of the copy bandwidth 0.60 or more", lambda v: v >= 0.6, at_4k
    street = [row for row in timed if row["frame"] == "1024x2048" and row["classes"] in (None, 19)]
    yield "at 1024x2048, under 15 us", lambda v: v < 15, [row["us"] for row in street]
    ratios = [
        row["torch_us"] / row["us"]
        for row in street
        if row["kernel"] == "tail labels" and "torch_us" in row
    ]
    yield "tail at 1024x2048, 20 times PyTorch or more", lambda v: v >= 20, ratios


if __name__ == "__main__":
    sys.exit(main())
