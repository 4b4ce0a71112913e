"""Workers of the frame benchmarks: first the pictures, for comparing; then, in turn, the times."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from harness import Samples, measure, run_worker

from frames.compare import Agreement, agreement, over_frames
from frames.scenes import Scene
from frames.way import Way

REFERENCE = "segedge, ONNX Runtime"
"""What the others are compared with: float32, and no form of its own of the network's library."""
INCLUDES = {
    "frame": "uint8 BGR image in memory to uint8 BGR overlay in memory, one at a time, frames in "
    "turn; no decoding or encoding",
    "preprocess": "image to the network's input tensor",
    "network": "tensor to the network's output",
    "tail": "the network's output to the overlay",
    "call": "image to labels: one call of a library that does not tell its stages",
    "paint": "labels to the overlay",
}


def ready_ways(ways: Mapping[str, Way], only: list[str] | None) -> tuple[list[str], dict[str, str]]:
    """The ways that can run here, and why the others cannot.

    Args:
        ways: All of them.
        only: Names to choose; None takes all.
    """
    chosen = {name: way for name, way in ways.items() if only is None or name in only}
    problems = {name: way.problem() for name, way in chosen.items()}
    skipped = {name: problem for name, problem in problems.items() if problem is not None}
    return [name for name in chosen if name not in skipped], skipped


def draw(way: Way, folder: Path, out: Path) -> dict[str, int]:
    """A worker: write labels and overlay of each frame."""
    scene = Scene.load(folder)
    step = way.open(scene)
    pictures = [step(frame) for frame in scene.frames]
    arrays = {f"labels{k}": np.asarray(p.labels(), np.uint8) for k, p in enumerate(pictures)}
    arrays |= {f"overlay{k}": p.overlay for k, p in enumerate(pictures)}
    np.savez(out, **arrays)
    return {"frames": len(pictures)}


def clock(way: Way, folder: Path, seconds: float) -> Samples:
    """A worker: time the frames, one after the other, round and round."""
    scene = Scene.load(folder)
    step, frames = way.open(scene), itertools.cycle(scene.frames)
    return measure(lambda: step(next(frames)).times, seconds=seconds)


def work(ways: Mapping[str, Way], variant: str, folder: Path, *, out: Path | None,
         seconds: float) -> None:  # fmt: skip
    """The worker's side of a script: print the answer as the last line."""
    way = ways[variant]
    answer = draw(way, folder, out) if out else clock(way, folder, seconds)
    print(json.dumps(answer))


def compare_all(
    script: Path, names: list[str], folder: Path, arguments: list[str]
) -> tuple[dict[str, Agreement], dict[str, str]]:
    """Let each way draw in a process of its own, and compare with the reference's pictures.

    Returns:
        Way to agreement, and way to why it drew nothing.
    """
    failed = {}
    for name in names:
        out = _drawing(folder, name)
        answer = run_worker(script, name, [*arguments, "--draw", str(out)])
        if isinstance(answer, str):
            failed[name] = answer
    drawn = [name for name in names if name not in failed]
    if REFERENCE not in drawn:
        raise SystemExit(f"{REFERENCE} is what all are compared with: {failed.get(REFERENCE)}")
    with np.load(_drawing(folder, REFERENCE)) as file:
        reference = dict(file)
    return {name: _compared(_drawing(folder, name), reference) for name in drawn}, failed


def _drawing(folder: Path, name: str) -> Path:
    return folder / f"drawing-{name.replace(' ', '_').replace('/', '_')}.npz"


def _compared(path: Path, reference: Mapping[str, np.ndarray]) -> Agreement:
    with np.load(path) as drawn:
        return over_frames(
            [
                agreement(
                    drawn[f"labels{k}"], drawn[f"overlay{k}"],
                    reference[f"labels{k}"], reference[f"overlay{k}"],
                )
                for k in range(len(reference) // 2)
            ]
        )  # fmt: skip
