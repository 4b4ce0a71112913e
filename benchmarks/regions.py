"""Cleaning a label map of small regions, beside OpenCV class by class.

A map of 1024x2048 with 19 classes: the labels of a trained Fast-SCNN on an enlarged CamVid frame
(11 classes) with specks of all 19 on top, and the same without specks. The OpenCV way is the usual
loop: `connectedComponentsWithStats` of every class's mask. It only *finds* the small regions;
segedge has also joined them to their neighbours and written the new map.

    python benchmarks/regions.py [--rounds 3] [--repeats 40] [--threads 2] [--save]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from harness import Stopwatch, measure, run_in_turn, write_results
from tail_cpu import FRAME, GRID, NETWORK, scene

from segedge.card import ModelCard
from segedge.cleaning import Cleaning
from segedge.cpu.arrays import address_of
from segedge.cpu.overlay import Blend
from segedge.cpu.regions import Cleaner
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers, usable_cores
from segedge.geometry import Geometry
from segedge.labels import label_set

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


def label_map(*, specks: bool) -> np.ndarray:
    """Labels of a real frame; with specks 3000 squares of 1 to 12 pixels' side on top."""
    _, logits, _ = scene()
    camvid = label_set("camvid")
    card = ModelCard(camvid.names, camvid.palette_rgb, NETWORK.height, NETWORK.width, stride=8)
    labels = np.empty((FRAME.height, FRAME.width), np.uint8)
    Tail(card, Geometry.fit(FRAME, NETWORK, "stretch"), GRID).run(logits, labels=labels)
    rng = np.random.default_rng(0)
    for _ in range(3000 if specks else 0):
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
    cleaner = Cleaner(cleaning, CLASSES.names, FRAME, workers=Workers(threads))
    cleaner.map[...] = labels
    out = np.empty_like(labels)
    weights = Blend.of(CLASSES.palette_rgb, 0.0).weights
    pixels = np.zeros((threads, len(CLASSES) + 1), np.int64)

    def step() -> dict[str, float]:
        watch = Stopwatch()
        cleaner.prepare()
        joined = watch.lap()
        cleaner.paint((address_of(out), out.strides[0], 1, 0, 0, 0, 0, 0, weights), pixels)
        written = watch.lap()
        return {"join": joined, "write": written, "all": joined + written}

    return step


def worker(variant: str, threads: int, repeats: int) -> dict[str, float]:
    """Medians of one case done one way."""
    way, _, case = variant.partition(": ")
    labels = label_map(specks=case != "plain")
    if way == "segedge":
        return measure(cleaner_step(labels, CASES[case], threads), warm_up=5, repeats=repeats)
    cv2.setNumThreads(threads)

    def step() -> dict[str, float]:
        watch = Stopwatch()
        opencv_small(labels, CASES[case].connectivity)
        return {"all": watch.lap()}

    return measure(step, warm_up=2, repeats=max(5, repeats // 4))


def main() -> None:
    """Measure in turn, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--threads", type=int, default=min(2, usable_cores()))
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--variant")
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(worker(options.variant, options.threads, options.repeats)))
        return
    variants = [f"segedge: {case}" for case in CASES]
    variants += [f"opencv: {case}" for case in ("specks", "plain", "specks 8-connected")]
    extra = ["--threads", str(options.threads), "--repeats", str(options.repeats)]
    rows = run_in_turn(Path(__file__), variants, rounds=options.rounds, arguments=extra)
    print(f"{FRAME}, {len(CLASSES)} classes, min_region {MIN_REGION}, {options.threads} threads")
    print(f"\n{'milliseconds':32}{'all':>9}{'join':>9}{'write':>9}")
    for name, row in rows.items():
        print(
            f"{name:32}" + "".join(f"{row[k]:9.2f}" for k in ("all", "join", "write") if k in row)
        )
    for case in ("specks", "plain", "specks 8-connected"):
        ours, theirs = (rows.get(f"{way}: {case}") for way in WAYS)
        if ours and theirs:
            print(f"\n{case}: {theirs['all'] / ours['all']:.1f} times as fast as OpenCV's way")
    if options.save:
        figures = {"threads": options.threads, "min_region": MIN_REGION, "milliseconds": rows}
        print(f"\nwrote {write_results('regions', figures)}")


if __name__ == "__main__":
    main()
