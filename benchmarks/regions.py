"""Cleaning a label map of small regions, beside OpenCV class by class.

A map of 1024x2048 with 19 classes: the labels of a trained Fast-SCNN on an enlarged CamVid frame
(11 classes) with specks of all 19 on top, and the same without specks. The OpenCV way is the usual
loop: `connectedComponentsWithStats` of every class's mask. It only *finds* the small regions;
segedge has also joined them to their neighbours and written the new map.

    python benchmarks/regions.py [--rounds 3] [--seconds 1] [--threads 2] [--save]
"""

from __future__ import annotations

import json
from collections.abc import Callable

import cv2
import harness
import numpy as np
from harness import Samples, Stopwatch
from tail_cpu import FRAME, label_map

from segedge.card.labels import label_set
from segedge.cpu.arrays import rows_of
from segedge.cpu.kernels.tables import Targets
from segedge.cpu.overlay import Blend
from segedge.cpu.regions.clean import Clean
from segedge.cpu.workers import Workers
from segedge.options.cleaning import Cleaning

CLASSES = label_set("cityscapes")
MIN_REGION = 200
CASES = {
    "specks": Cleaning(MIN_REGION),
    "plain": Cleaning(MIN_REGION),
    "specks 8-connected": Cleaning(MIN_REGION, connectivity=8),
    "specks holes": Cleaning(MIN_REGION, fill_holes=2000),
    "specks majority 3": Cleaning(MIN_REGION, majority=3),
    "specks majority 7": Cleaning(MIN_REGION, majority=7),
}
WAYS = ("segedge", "opencv")
COMPARED = ("specks", "plain", "specks 8-connected")
"""Cases that both ways do."""
INCLUDES = {
    "all": "a label map to the cleaned one; OpenCV's way: to the mask of small regions alone",
    "join": "finding regions and joining them to their neighbours",
    "write": "writing the new map",
}


def specked_map() -> np.ndarray:
    """Labels of a real frame with 3000 squares of 1 to 12 pixels' side on top."""
    labels = label_map()
    rng = np.random.default_rng(0)
    for _ in range(3000):
        y, x = rng.integers(0, FRAME.height), rng.integers(0, FRAME.width)
        side = int(rng.integers(1, 13))
        labels[y : y + side, x : x + side] = rng.integers(0, len(CLASSES))
    return labels


def opencv_small(labels: np.ndarray, connectivity: int) -> np.ndarray:
    """The pixels of small regions, class by class."""
    small = np.zeros(labels.shape, bool)
    for label in range(len(CLASSES)):
        mask = (labels == label).astype(np.uint8)
        _, component, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
        is_small = stats[:, cv2.CC_STAT_AREA] < MIN_REGION
        is_small[0] = False  # the pixels of other classes
        small |= is_small[component]
    return small


def cleaner_step(
    labels: np.ndarray, cleaning: Cleaning, threads: int
) -> Callable[[], dict[str, float]]:
    """One frame with segedge: milliseconds of finding and joining, and of writing."""
    cleaner = Clean(cleaning, CLASSES.names, FRAME, workers=Workers(threads))
    cleaner.map[...] = labels
    out = np.empty_like(labels)
    weights = Blend.of(CLASSES.palette_rgb, 0.0).weights
    pixels = np.zeros((threads, len(CLASSES) + 1), np.int64)

    def step() -> dict[str, float]:
        watch = Stopwatch()
        cleaner.prepare()
        joined = watch.lap()
        cleaner.paint(Targets(*rows_of(out), 1, 0, 0, 0, 0, 0, weights), pixels)
        written = watch.lap()
        return {"join": joined, "write": written, "all": joined + written}

    return step


def worker(variant: str, threads: int, seconds: float) -> Samples:
    """One case done one way."""
    way, _, case = variant.partition(": ")
    labels = label_map() if case == "plain" else specked_map()
    if way == "segedge":
        return harness.measure(cleaner_step(labels, CASES[case], threads), seconds=seconds)
    cv2.setNumThreads(threads)

    def step() -> dict[str, float]:
        watch = Stopwatch()
        opencv_small(labels, CASES[case].connectivity)
        return {"all": watch.lap()}

    return harness.measure(step, seconds=seconds)


def main() -> None:
    """Measure in turn, print, save."""
    options = harness.parsed(harness.parser_of(__doc__, rounds=3, seconds=1.0, threads=2))
    if options.variant:
        print(json.dumps(worker(options.variant, options.threads, options.seconds)))
        return
    run = harness.Run.begin(options)
    variants = [f"segedge: {case}" for case in CASES]
    variants += [f"opencv: {case}" for case in COMPARED]
    turns = run.in_turn(__file__, variants, carry=("threads", "seconds"))
    print(f"{FRAME}, {len(CLASSES)} classes, min_region {MIN_REGION}, {options.threads} threads")
    print_table(turns)
    settings = {"threads": options.threads, "min_region": MIN_REGION}
    run.write("regions", INCLUDES, turns.figures({}), settings, skipped=turns.skipped)


def print_table(turns: harness.Turns) -> None:
    """Medians, and how many times as fast."""
    print(f"\n{'medians, ms':32}{'all':>9}{'join':>9}{'write':>9}")
    for name in turns.samples:
        cells = [turns.median(name, quantity) for quantity in INCLUDES]
        print(f"{name:32}" + "".join(f"{cell:9.2f}" for cell in cells if cell is not None))
    for case in COMPARED:
        ours, theirs = (turns.median(f"{way}: {case}", "all") for way in WAYS)
        if ours and theirs:
            print(f"\n{case}: {theirs / ours:.1f} times as fast as OpenCV's way")


if __name__ == "__main__":
    main()
