"""What smoothing over time costs a frame: logits of 19 classes at stride 8.

Logits and input are random, new in every frame, so that caches hold no more of them than of real
ones. `still` is a scene in which all of the past counts, `moving` one in which none does; `flicker`
counts labels that change, too. The NumPy way is the plain exponential mean of whole logits, which
knows neither motion nor scene changes.

    python benchmarks/smoothing.py [--rounds 3] [--seconds 1] [--threads 2] [--save]
"""

from __future__ import annotations

import json
from collections.abc import Callable

import harness
import numpy as np
from harness import Samples, Stopwatch

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.labels import label_set
from segedge.cpu.smoothing import Smooth
from segedge.cpu.workers import Workers
from segedge.options.smoothing import Smoothing, Step

CLASSES = label_set("cityscapes")
STRIDE = 8
SIZES = {"512x1024": Size(512, 1024), "1024x2048": Size(1024, 2048)}
"""Of the network's input."""
WAYS = tuple(
    f"{way}, {size}"
    for size in SIZES
    for way in ("still", "moving", "still, flicker", "still, float16", "NumPy")
)
INCLUDES = {"smoothing": "the logits of one frame mixed with their past in place"}
FRAMES = 8


def step_of(way: str, threads: int) -> Callable[[], dict[str, float]]:
    """One frame, done one way."""
    rng = np.random.default_rng(0)
    dtype = "float16" if "float16" in way else "float32"
    network = SIZES[way.rpartition(", ")[2]]
    grid = Size(network.height // STRIDE, network.width // STRIDE)
    card = ModelCard(
        CLASSES.names, CLASSES.palette_rgb, network.height, network.width, stride=STRIDE
    )
    frames = rng.normal(0, 4, (FRAMES, 1, card.channels, grid.height, grid.width)).astype(dtype)
    tensor = rng.normal(size=(1, 3, network.height, network.width)).astype(np.float32)
    other = -tensor
    work = np.empty_like(frames[0])
    workers = Workers(threads)
    smoothing = Smoothing(flicker="flicker" in way)
    smoother = Smooth(card, grid, network, smoothing=smoothing, workers=workers)
    past, index = smoother.new_past(), 0

    def step() -> dict[str, float]:
        nonlocal index
        np.copyto(work, frames[index % FRAMES])
        seen = other if way.startswith("moving") and index % 2 else tensor
        watch = Stopwatch()
        smoother.run(work, seen, past=past, step=Step(smoothing.kept(0.04), index == 0))
        lap = watch.lap()
        index += 1
        return {"smoothing": lap}

    def plain() -> dict[str, float]:
        nonlocal index
        np.copyto(work, frames[index % FRAMES])
        index += 1
        watch = Stopwatch()
        work[...] = np.float32(0.1) * work + np.float32(0.9) * frames[0]
        return {"smoothing": watch.lap()}

    return plain if way.startswith("NumPy") else step


def main() -> None:
    """Measure in turn, print, save."""
    options = harness.parsed(harness.parser_of(__doc__, rounds=3, seconds=1.0, threads=2))
    if options.variant:
        step = step_of(options.variant, options.threads)
        samples: Samples = harness.measure(step, seconds=options.seconds)
        print(json.dumps(samples))
        return
    run = harness.Run.begin(options)
    turns = run.in_turn(__file__, WAYS, carry=("threads", "seconds"))
    print(f"logits of {len(CLASSES)} classes at stride {STRIDE}, {options.threads} threads\n")
    for way in turns.samples:
        found = turns.median(way, "smoothing")
        print(f"{way:28}" + ("" if found is None else f"{found:8.2f} ms"))
    settings = {"threads": options.threads, "stride": STRIDE, "classes": len(CLASSES)}
    run.write("smoothing", INCLUDES, turns.figures({}), settings, skipped=turns.skipped)


if __name__ == "__main__":
    main()
