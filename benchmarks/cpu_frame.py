"""One frame on a CPU, from uint8 BGR image to uint8 BGR overlay: where its time goes.

    python benchmarks/cpu_frame.py [--rounds 3] [--seconds 2] [--save]

Stage by stage: segedge on each CPU backend, its network alone, and the usual scripts, which are
those of peers.py. Same frames (1024x2048), same network (Fast-SCNN 512x1024 where the shared models
are, else the bundled one), same output; each in a process of its own, in turn. Output pixels are
compared before any time is printed.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import harness
from frames.run import INCLUDES, compare_all, ready_ways, work
from frames.scenes import make_fast_scnn, make_tiny_street
from frames.scripts import CPU_WAYS
from frames.way import Way, network_way
from harness import Turns

STAGES = ("preprocess", "network", "tail", "frame")
NETWORKS = {
    "network alone, OpenVINO": network_way("openvino"),
    "network alone, OpenVINO f32": network_way("openvino:f32"),
    "network alone, ONNX Runtime": network_way("onnxruntime"),
}
STAGED = ("segedge", "PyTorch", "ONNX Runtime", "OpenVINO")
"""Families that tell their stages."""
WAYS: dict[str, Way] = {
    **NETWORKS, **{name: way for name, way in CPU_WAYS.items() if way.family in STAGED},
}  # fmt: skip


def main() -> int:
    """Compare, time, print, save."""
    parser = harness.parser_of(__doc__, rounds=3, seconds=2.0)
    parser.add_argument("--folder", type=Path, help="of the worker")
    parser.add_argument("--draw", type=Path, help="of the worker")
    options = harness.parsed(parser)
    if options.variant:
        work(WAYS, options.variant, options.folder, out=options.draw, seconds=options.seconds)
        return 0
    run = harness.Run.begin(options)
    names, skipped = ready_ways(WAYS, None)
    with tempfile.TemporaryDirectory() as folder:
        title = make_scene(Path(folder), quick=options.quick)
        arguments = ["--folder", folder]
        drawing = [name for name in names if name not in NETWORKS]
        agreements, failed = compare_all(Path(__file__), drawing, Path(folder), arguments)
        for name, found in agreements.items():
            print(f"{name:36}{found.text}")
        good = [name for name in names if name not in failed]
        turns = run.in_turn(__file__, good, carry=("seconds",), also={"folder": folder})
    print_table(turns)
    run.write(
        "cpu_frame",
        INCLUDES,
        turns.figures({}),
        {"title": title, "rounds": options.rounds, "seconds": options.seconds},
        details={"agreement": {name: asdict(found) for name, found in agreements.items()}},
        skipped={**skipped, **failed, **turns.skipped},
    )
    return 0


def make_scene(folder: Path, *, quick: bool) -> str:
    """Frames and networks; ``quick`` takes tiny ones."""
    if quick:
        return make_tiny_street(folder)
    return make_fast_scnn(folder)


def print_table(turns: Turns) -> None:
    """Stages in milliseconds, and the frame as a multiple of segedge's fastest."""
    frames = {name: turns.median(name, "frame") for name in turns.samples}
    best = min(ms for name, ms in frames.items() if ms and name.startswith("segedge"))
    print(f"\n{'medians, ms':36}{'pre':>8}{'network':>9}{'tail':>8}{'frame':>9}{'ratio':>8}")
    for name, frame in frames.items():
        cells = [turns.median(name, stage) for stage in STAGES]
        texts = [f"{cell:.2f}" if cell is not None else "-" for cell in cells]
        ratio = f"{frame / best:.2f}" if frame else "-"
        print(f"{name:36}{texts[0]:>8}{texts[1]:>9}{texts[2]:>8}{texts[3]:>9}{ratio:>8}")


if __name__ == "__main__":
    sys.exit(main())
