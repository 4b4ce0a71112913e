"""segedge beside what a user would pick instead: the same frames, network and outputs.

    python benchmarks/peers.py [--save] [--scene fast-scnn|segformer] [--only NAME ...] [--quick]

fast-scnn: Fast-SCNN 512x1024 on 1024x2048 frames. segformer: SegFormer-B0 shapes, 150 classes at
stride 4, 512x512, random weights, on 720x1280 frames. Each way runs in a process of its own, in
turn. Pictures are compared before any time is printed; a way whose pictures are wrong is not timed.
What is not installed, or needs a GPU where there is none, is told and left out.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import harness
import numpy as np
from document import Figure
from frames.compare import Agreement
from frames.on_gpu import GPU_WAYS
from frames.run import INCLUDES, REFERENCE, compare_all, ready_ways, work
from frames.scenes import Scene, make_fast_scnn, make_segformer, make_tiny_street
from frames.scripts import CPU_WAYS
from frames.transformer import SEGFORMER_WAYS
from frames.way import Way
from harness import Turns

from segedge.card.geometry import Size

SCENES: dict[str, dict[str, Way]] = {
    "fast-scnn": {**CPU_WAYS, **GPU_WAYS},
    "segformer": SEGFORMER_WAYS,
}
WANTED = {
    "fast-scnn": {
        "PyTorch": 10.0, "ONNX Runtime": 4.0, "OpenVINO": 2.5, "OpenVINO Model API": 2.5
    },
    "segformer": {"Hugging Face": 2.0},
}  # fmt: skip
"""Family to the times as fast that segedge should be, on two CPU cores."""


def main() -> int:
    """Compare, time, print, save."""
    parser = harness.parser_of(__doc__, rounds=3, seconds=2.0)
    parser.add_argument("--scene", choices=list(SCENES), help="this one alone")
    parser.add_argument("--only", action="append", metavar="NAME", help="this way; repeatable")
    parser.add_argument("--folder", type=Path, help="of the worker")
    parser.add_argument("--draw", type=Path, help="of the worker")
    options = harness.parsed(parser)
    if options.variant:
        ways, seconds = SCENES[options.scene], options.seconds
        work(ways, options.variant, options.folder, out=options.draw, seconds=seconds)
        return 0
    run = harness.Run.begin(options)
    chosen = [options.scene] if options.scene else list(SCENES)
    parts = [run_scene(name, options) for name in chosen]
    run.write(
        "peers",
        INCLUDES,
        [figure for part in parts for figure in part["figures"]],
        {"rounds": options.rounds, "seconds": options.seconds, "quick": options.quick},
        details={part["scene"]: part["details"] for part in parts},
        skipped={f"{p['scene']}: {n}": why for p in parts for n, why in p["skipped"].items()},
    )
    return 0


def run_scene(name: str, options: Any) -> dict[str, Any]:
    """All ways of one scene."""
    ways = SCENES[name]
    only = [REFERENCE, *options.only] if options.only else None
    names, skipped = ready_ways(ways, only)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        title = make_scene(name, folder, quick=options.quick)
        facts = scene_facts(folder)
        print(f"\n{title}, frames {facts['frame']}, {facts['uniform_cells']:.0%} uniform cells")
        arguments = ["--scene", name, "--folder", text]
        agreements, failed = compare_all(Path(__file__), names, folder, arguments)
        wrong = {n: f"not timed: {a.text}" for n, a in agreements.items() if not a.is_explained}
        skipped |= failed | wrong
        print_agreement(agreements, skipped)
        good = [n for n in agreements if n not in wrong]
        arguments += ["--seconds", str(options.seconds)]
        turns = harness.run_in_turn(
            Path(__file__), good, rounds=options.rounds, arguments=arguments
        )
    figures = turns.figures({}, scene=name)
    print_times(ways, turns, figures)
    details = {
        "title": title, **facts,
        "agreement": {n: asdict(a) for n, a in agreements.items()},
        "wanted": judge(ways, turns, WANTED[name], agreements),
        "notes": {n: way.note for n, way in ways.items() if way.note},
    }  # fmt: skip
    skipped |= turns.skipped
    return {"scene": name, "figures": figures, "details": details, "skipped": skipped}


def make_scene(name: str, folder: Path, *, quick: bool) -> str:
    """Frames and networks; ``quick`` takes tiny ones."""
    if name == "segformer":
        sizes = {"network": 64, "frame": Size(96, 160), "tiny": True} if quick else {}
        return make_segformer(folder, **sizes)
    if quick:
        return make_tiny_street(folder)
    return make_fast_scnn(folder)


def scene_facts(folder: Path) -> dict[str, Any]:
    """Sizes, and the share of logit cells whose corners agree: what makes the tail cheap."""
    from segedge.backends.registry import open_backend
    from segedge.card.geometry import Geometry
    from segedge.cpu.preprocess import Preprocess

    scene = Scene.load(folder)
    backend = open_backend(folder / "cut.onnx", "onnxruntime").backend
    geometry = Geometry.fit(scene.frame, scene.network, scene.card.fit)
    preprocessor = Preprocess(scene.card, geometry)
    tensor, shares, present = np.empty(preprocessor.shape, np.float32), [], set()
    for frame in scene.frames:
        preprocessor.run(frame, tensor)
        grid = np.asarray(backend.run([tensor])[0])[0].argmax(axis=0).astype(np.uint8)
        cells = cv2.dilate(grid, np.ones((2, 2))) == cv2.erode(grid, np.ones((2, 2)))
        shares.append(float(cells.mean()))
        present |= set(np.unique(grid).tolist())
    backend.close()
    return {
        "frame": str(scene.frame), "network": str(scene.network),
        "classes": len(scene.card.classes), "classes_present": len(present),
        "uniform_cells": float(np.mean(shares)),
    }  # fmt: skip


def judge(
    ways: dict[str, Way], turns: Turns, wanted: dict[str, float], agreements: dict[str, Agreement]
) -> list[dict[str, Any]]:
    """Fastest form of each family over the fastest of segedge; printed.

    Two verdicts: against the fastest form at all, and against the fastest that enlarges logits, as
    segedge does: where there is none, only the first.
    """
    ours = fastest(ways, turns, "segedge")
    verdicts = []
    for family, ratio in wanted.items():
        for smooth in (False, True):
            theirs = fastest(ways, turns, family, smooth=smooth)
            if ours is None or theirs is None:
                continue
            found = theirs[1] / ours[1]
            same = agreements[theirs[0]].labels
            verdicts.append(
                {
                    "family": family, "way": theirs[0], "over": ours[0], "wanted": ratio,
                    "found": found, "met": found >= ratio, "labels_equal": same,
                }
            )  # fmt: skip
            word = "met    " if found >= ratio else "not met"
            print(f"{word}  {ratio:g}x {family}: {found:.1f}x {theirs[0]}, {same:.2%} labels equal")
    return verdicts


def fastest(
    ways: dict[str, Way], turns: Turns, family: str, *, smooth: bool = False
) -> tuple[str, float] | None:
    """Name and median of the family's fastest; ``smooth`` asks for those that enlarge logits."""
    found = [
        (name, median)
        for name, way in ways.items()
        if way.family == family and not way.on_gpu and (way.is_smooth or not smooth)
        if (median := turns.median(name, "frame")) is not None
    ]
    return min(found, key=lambda pair: pair[1]) if found else None


def print_agreement(agreements: dict[str, Agreement], skipped: dict[str, str]) -> None:
    """Pixels before times."""
    print(f"pixels against {REFERENCE}:")
    for name, found in agreements.items():
        print(f"  {name:36}{found.text}")
    for name, reason in skipped.items():
        print(f"  skipped: {name}: {reason}")


def print_times(ways: dict[str, Way], turns: Turns, figures: list[Figure]) -> None:
    """A row a way: the frame, its span, times segedge, stages."""
    ours = fastest(ways, turns, "segedge")
    print(f"\n{'':36}{'frame ms':>9}  {'within':>16}{'x segedge':>10}  stages")
    for figure in figures:
        if figure.quantity != "frame" or ours is None:
            continue
        stages = [
            f"{f.quantity} {f.median:.2f}"
            for f in figures
            if f.variant == figure.variant and f.quantity != "frame"
        ]
        ratio = figure.median / ours[1]
        row = f"{figure.variant:36}{figure.median:9.2f}  {figure.span:>16}{ratio:10.2f}"
        print(f"{row}  {', '.join(stages)}")
    print()


if __name__ == "__main__":
    sys.exit(main())
