"""Video with the network on every N-th frame only: what it costs in accuracy, and in time.

``accuracy``: mIoU over *all* frames, the others' logits carried by motion from the key frame before
(past) or from those on both sides (both), beside those that keep the key frame's labels (held). On
CamVid's validation frames (in recording order, 15 fps) with the Fast-SCNN trained on it, and on the
bundled clip with its true labels. ``codec`` is the motion of H.264's own vectors: CamVid is coded
for it by x264 (medium, with and without B frames), the clip is as it lies there. ``N=1`` is the
network on every frame.

``cost``: each stage of a carried frame of 1024x2048 beside the network, Fast-SCNN 512x1024.

``video``: frames of 1024x2048 in memory to overlays in order through that network, on every frame
and on every fourth with the others interpolated; each way in a process of its own, in turn.

``live``: a pattern of 720p at 30 a second through a network that sleeps 90 ms, with the newest
logits carried to every frame: overlays a second, drops, and latency.

``memory``: the resident memory over 20,000 frames in order, every fourth through the network.

    python benchmarks/motion.py accuracy [--sets camvid clip] [--quick] [--save]
    python benchmarks/motion.py cost [--seconds 2] [--threads 2] [--quick] [--save]
    python benchmarks/motion.py video [--rounds 3] [--quick] [--save]
    python benchmarks/motion.py live [--seconds 20] [--quick] [--save]
    python benchmarks/motion.py memory [--quick] [--save]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import harness
from carried import speed
from carried.accuracy import DISTANCES, FRAMES, SETS, accuracy
from document import Document, Figure

from segedge.machine.environment import Environment

INCLUDES = {
    "miou": "mean IoU over classes of all frames, key frames and carried ones, in one matrix",
    "fps": "decoded frames in memory to overlays in order, network, flow and tail included",
    "live": "a camera of 30 a second and a network of 90 ms, as named",
    "milliseconds": "one stage of one frame; carry is of two keys, tail gives the overlay",
    "memory": "resident memory of the whole process, interpreter and libraries included",
}
PARTS = ("accuracy", "cost", "video", "live", "memory")


def main() -> None:
    """Measure, print, save."""
    parser = harness.saving_parser(__doc__, quick="a few frames: does it run?")
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--rounds", type=harness.positive(int), default=3)
    parser.add_argument("--way", help=argparse.SUPPRESS)  # the worker's side of `video`
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--frames", type=int, default=96, help=argparse.SUPPRESS)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seconds", type=harness.positive(float), default=2.0)
    parser.add_argument("--threads", type=harness.positive(int), default=2)
    options = parser.parse_args()
    if options.way:
        print(speed.video(options.way, Path(options.folder), options.frames))
        return
    environment = Environment.capture()
    harness.say_machine(environment)
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(options, Path(folder))
    settings = {"threads": options.threads, "frames": FRAMES}
    document = Document(
        f"motion_{options.what}", INCLUDES, tuple(figures), settings, environment=environment
    )
    if options.save:
        harness.save(document, quick=options.quick)


def measured(options: Any, folder: Path) -> list[Figure]:
    """Of the part that is asked for."""
    if options.what == "accuracy":
        return accuracies(options, folder)
    if options.what == "video":
        return speed.videos(options, folder)
    if options.what == "live":
        found = speed.live(3.0 if options.quick else max(options.seconds, 20.0))
        return told(found, "live")
    if options.what == "memory":
        return told(speed.memory(200 if options.quick else 20_000), "memory", unit="MB")
    seconds = 0.05 if options.quick else options.seconds
    samples = harness.measure(speed.cost(folder, options.threads), seconds=seconds)
    figures = [Figure.of(stage, "milliseconds", [values]) for stage, values in samples.items()]
    for figure in figures:
        print(f"{figure.variant:35}{figure.median:8.2f} ms  least {figure.minimum:.2f}")
    return figures


def told(found: dict[str, float], quantity: str, unit: str = "") -> list[Figure]:
    """Print single values, as figures."""
    for name, value in found.items():
        print(f"{name:40}{value:8.1f} {unit}")
    return [Figure.of(name, quantity, [[value]], unit=unit) for name, value in found.items()]


def accuracies(options: Any, folder: Path) -> list[Figure]:
    """Of the sets that are asked for."""
    figures = []
    for name in options.sets:
        count = 7 if options.quick else FRAMES[name]
        rows = accuracy(name, folder, count, DISTANCES[:2] if options.quick else DISTANCES)
        figures += [
            Figure.of(variant, "miou", [[value]], unit="%") for variant, value in rows.items()
        ]
    return figures


if __name__ == "__main__":
    main()
