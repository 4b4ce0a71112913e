"""What smoothing does to a video whose truth is known: flicker, mIoU, and ghosts behind movers.

The bundled clip, and the same with the noise of a camera at dusk (4 grey levels) on top; its truth
is rendered again by the code that made it. The network runs once a frame, every setting of
smoothing goes on from its logits. A camera that drives moves most of the image a little, so of
every pixel whose *true* label stays the same it is counted how often the label changes.

    python benchmarks/flicker.py [--frames 250] [--backend auto] [--quick] [--save]
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import harness
import numpy as np
from document import Figure
from frames.scenes import STREET, make_street

import segedge
from segedge.backends.base import Backend
from segedge.backends.registry import open_backend
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.modelfile import read_card
from segedge.frames.frame import Frame
from segedge.measure.evaluate.confusion import Confusion
from segedge.options.frame import FrameOptions
from segedge.options.smoothing import Smoothing
from segedge.segment.segmenter import Segmenter

CLIP, FPS, START_SECONDS, SEED = STREET / "street.mp4", 25, 2.0, 22  # as clip.py has them
SETTINGS = {"off": 0.0, "0.5": 0.5, "0.8": 0.8, "0.9": 0.9, "0.95": 0.95}
NOISE_LEVELS = {"clip": 0.0, "clip + noise": 4.0}
MOVERS = ("car", "person", "bicycle")
INCLUDES = {
    "miou": "mean IoU over classes; all frames in one confusion matrix",
    "movers": "mean IoU of car, person and bicycle",
    "flicker": "pixels whose label changes from one frame to the next, of those whose true label "
    "stays; full resolution",
    "still": "the figure of segedge run: grid points that change label, of those around which the "
    "image is still",
    "returned": "of the same points those that are back at the label of two frames before",
    "ghosts": "pixels that a mover has just left which still bear its label",
}
Image = np.ndarray


class Once:
    """A backend that runs once a frame, whoever asks."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._kept: list[np.ndarray] | None = None
        self.memory, self.specs = backend.memory, backend.specs
        self.description = backend.description

    def next(self) -> None:
        """The following frame is another."""
        self._kept = None

    def run(self, inputs: Any, outputs: Any = None) -> Any:
        """The network's output for this frame."""
        if self._kept is None:
            self._kept = [array.copy() for array in self._backend.run(inputs)]
        if outputs is None:
            return [array.copy() for array in self._kept]
        for array, kept in zip(outputs, self._kept, strict=True):
            np.copyto(array, kept)
        return outputs

    def close(self) -> None:
        """Its user closes the real one."""


@dataclass
class Score:
    """The labels of one setting, added up."""

    confusion: Confusion
    movers: list[int]
    last: tuple[Image, Image] | None = None
    """Labels and truth of the frame before."""
    stayed: int = 0
    changed: int = 0
    left: int = 0
    ghosts: int = 0
    flicker: dict[str, float] = field(default_factory=dict)

    def add(self, labels: Image, truth: Image) -> None:
        """One frame more."""
        self.confusion.add(truth.astype(np.int16), labels)
        if self.last is not None:
            before, true_before = self.last
            stays = truth == true_before
            self.stayed += int(stays.sum())
            self.changed += int((stays & (labels != before)).sum())
            left = np.isin(true_before, self.movers) & ~np.isin(truth, self.movers)
            self.left += int(left.sum())
            self.ghosts += int((left & (labels == true_before)).sum())
        self.last = labels.copy(), truth

    def figures(self) -> dict[str, float]:
        """All figures, in percent."""
        return {
            "miou": 100 * self.confusion.miou,
            "movers": 100 * float(np.nanmean(self.confusion.iou[self.movers])),
            "flicker": 100 * self.changed / self.stayed,
            "still": 100 * self.flicker["changed"],
            "returned": 100 * self.flicker["returned"],
            "ghosts": 100 * self.ghosts / self.left,
        }


def clip(count: int) -> Iterator[tuple[Image, Image]]:
    """Frames of the bundled clip with their true labels."""
    sys.path.insert(0, str(STREET))
    scene = importlib.import_module("scenes").Scene(SEED, mood="day", noise=0.6)
    for frame in segedge.open_source(CLIP).frames():
        if frame.index >= count:
            return
        height, width = frame.size
        yield frame.image_hwc, scene.render(START_SECONDS + frame.index / FPS, height, width)[1]


def measure(card: ModelCard, backend: Backend, count: int) -> dict[str, dict[str, float]]:
    """Figures by clip and setting."""
    once = Once(backend)
    rng = np.random.default_rng(0)
    segmenters = {
        (noise, name): Segmenter(
            card, once, options=FrameOptions(smoothing=Smoothing(strength=strength, flicker=True))
        )
        for noise in NOISE_LEVELS
        for name, strength in SETTINGS.items()
    }  # fmt: skip
    movers = [card.classes.index(name) for name in MOVERS]
    scores = {key: Score(Confusion(card.classes), movers) for key in segmenters}
    for index, (image, truth) in enumerate(clip(count)):
        for noise, sigma in NOISE_LEVELS.items():
            grain = rng.normal(0, sigma, image.shape[:2])[..., None] if sigma else 0.0
            seen = np.clip(image + grain, 0, 255).astype(np.uint8)
            once.next()
            for key in (key for key in segmenters if key[0] == noise):
                frame = Frame(seen, index, pts_seconds=index / FPS)
                labels = segmenters[key](frame, outputs=("labels",)).labels
                scores[key].add(labels, truth)
        print(f"\r{index + 1} frames", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for key, segmenter in segmenters.items():
        counted = segmenter.flicker()
        scores[key].flicker = (counted.shares() if counted else None) or {}
        segmenter.close()
    return {": ".join(key): score.figures() for key, score in scores.items()}


def main() -> None:
    """Measure, print, save."""
    parser = harness.saving_parser(__doc__, quick="a few frames: does it run?")
    parser.add_argument("--frames", type=harness.positive(int), default=250)
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args()
    count = 10 if options.quick else options.frames
    run = harness.Run.begin(options)
    cv2.setNumThreads(2)
    with tempfile.TemporaryDirectory() as folder:
        network = make_street(Path(folder), network=Size(384, 768), frame=Size(540, 960))
        model = Path(folder) / "cut.onnx"
        card = read_card(model)
        assert card is not None
        choice = open_backend(model, options.backend, threads=None)
        rows = measure(card, choice.backend, count)
        choice.backend.close()
    print(f"{count} frames of {CLIP.name}, {network}, {choice.name}; all in %\n")
    print(f"{'strength':22}" + "".join(f"{quantity:>10}" for quantity in INCLUDES))
    for name, row in rows.items():
        print(f"{name:22}" + "".join(f"{row[quantity]:10.3f}" for quantity in INCLUDES))
    figures = [
        Figure.of(name, quantity, [[value]], unit="%")
        for name, row in rows.items()
        for quantity, value in row.items()
    ]
    settings = {"frames": count, "backend": choice.name, "network": network}
    run.write("flicker", INCLUDES, figures, settings)


if __name__ == "__main__":
    main()
