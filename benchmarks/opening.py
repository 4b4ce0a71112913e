"""What a file's proof costs until the first result is there: whole processes, in turn.

    python benchmarks/opening.py [--rounds 31] [--backend NAME ...] [--model MODEL.onnx] [--save]

Each process opens a file with `segedge.load` and draws one overlay of a 540x960 image: unchecked,
for the first time (its pictures are shown and compared), and later (what came of it is kept). The
kernels are in their cache and files have been read before. How much later the first result comes is
a difference of two processes of the same round, beside the first frame of the unchecked one.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np
from document import Figure
from frames.scenes import make_fast_scnn, make_tiny_street

import segedge
from segedge.backends.openvino import openvino_abilities
from segedge.card.picture import Picture
from segedge.machine.cache_folder import CACHE_VARIABLE, cache_path

INCLUDES = {
    "opening": "segedge.load, without importing segedge",
    "first frame": "the process's first: allocation, and an overlay of a 540x960 image",
    "frame": "a later one, median of 20",
    "result": "opening and first frame",
    "later by": "result, less that of the unchecked process of the same round",
}
WAYS = ("unchecked", "first", "later")
"""How a file is opened."""


def work(options: object, backend: str, way: str) -> None:
    """One process: open, draw, and tell how long it took."""
    folder: Path = options.folder  # type: ignore[attr-defined]
    image = Picture(540, 960, 3).pixels()
    if way == "first":
        for name in ("checks", "refused"):
            shutil.rmtree(Path(os.environ[CACHE_VARIABLE]) / name, ignore_errors=True)
    watch = harness.Stopwatch()
    segmenter = segedge.load(folder / "cut.onnx", backend=backend, check=way != "unchecked")
    opening = watch.lap()
    segmenter(image, outputs=("overlay",)).overlay()
    first = watch.lap()
    frames = []
    for _ in range(20):
        started = time.perf_counter()
        segmenter(image, outputs=("overlay",)).overlay()
        frames.append(1e3 * (time.perf_counter() - started))
    if way != "unchecked" and segmenter.checked is None:
        raise SystemExit("the file has no proof: segedge prove it first")
    told = {"opening": opening, "first frame": first, "result": opening + first}
    print(json.dumps(told | {"frame": float(np.median(frames))}))


def main() -> int:
    """Measure, print, save."""
    parser = harness.parser_of(__doc__, rounds=31, seconds=1.0)
    parser.add_argument("--model", type=Path, help="with its card; default: as in peers.py")
    parser.add_argument("--backend", action="append", metavar="NAME", help="repeatable")
    parser.add_argument("--folder", type=Path, help="of the worker")
    options = harness.parsed(parser)
    if options.variant:
        work(options, *options.variant.split(", "))
        return 0
    run = harness.Run.begin(options)
    backends = options.backend or ["onnxruntime", "openvino:f32", *in_bf16(), "auto"]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        title = prepare(folder, options)
        kernels = cache_path("cpu")
        kernels.mkdir(parents=True, exist_ok=True)
        own = folder / "cache"
        own.mkdir()
        (own / "cpu").symlink_to(kernels)
        os.environ[CACHE_VARIABLE] = str(own)
        for backend in backends:  # whatever is to be compiled is, and files have been read
            segedge.load(folder / "cut.onnx", backend=backend).close()
        variants = [f"{backend}, {way}" for backend in backends for way in WAYS]
        turns = run.in_turn(__file__, variants, also={"folder": folder})
    figures = turns.figures({})
    later = [
        Figure.of(f"{backend}, {way}", "later by", differences(turns, backend, way))
        for backend in backends
        for way in WAYS[1:]
        if {f"{backend}, unchecked", f"{backend}, {way}"} <= set(turns.samples)
    ]
    print_table(figures, later)
    settings = {"model": title, "rounds": options.rounds}
    run.write("opening", INCLUDES, [*figures, *later], settings, skipped=turns.skipped)
    return 0


def in_bf16() -> list[str]:
    """OpenVINO in bf16, where this CPU has it."""
    return ["openvino:bf16"] if "BF16" in openvino_abilities() else []


def prepare(folder: Path, options: object) -> str:
    """A model with its card and its proof as ``cut.onnx``."""
    model: Path | None = options.model  # type: ignore[attr-defined]
    if model is not None:
        shutil.copy(model, folder / "cut.onnx")
        return str(model.name)
    if options.quick:  # type: ignore[attr-defined]
        return make_tiny_street(folder)
    return make_fast_scnn(folder)


def differences(turns: harness.Turns, backend: str, way: str) -> list[list[float]]:
    """By how much a process's first result comes after the unchecked one's, round by round."""
    before, after = (turns.samples[f"{backend}, {name}"] for name in ("unchecked", way))
    return [[b["result"][0] - a["result"][0]] for a, b in zip(before, after, strict=True)]


def print_table(figures: list[Figure], later: list[Figure]) -> None:
    """A row a variant."""
    median = {(figure.variant, figure.quantity): figure.median for figure in figures}
    extra = {figure.variant: figure for figure in later}
    columns = ("opening", "first frame", "frame", "result")
    print(f"\n{'medians, ms':30}" + "".join(f"{name:>13}" for name in columns))
    for variant in dict.fromkeys(figure.variant for figure in figures):
        row = "".join(f"{median[variant, name]:13.1f}" for name in columns)
        told = extra.get(variant)
        more = "" if told is None else f"   later by {told.median:.1f} ms ({told.span})"
        print(f"{variant:30}{row}{more}")


if __name__ == "__main__":
    sys.exit(main())
