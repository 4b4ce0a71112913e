"""A camera that pans over a scene, and what a segmenter shows of it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.frames.frame import Frame
from segedge.options.frame import FrameOptions
from segedge.options.motion import Motion
from segedge.segment.moving import Moving, Shown
from segedge.segment.segmenter import Segmenter

CARD = ModelCard(
    ("night", "dusk", "day"), ((0, 0, 0), (0, 0, 255), (255, 255, 0)), 96, 128, stride=8
)
SIZE = (96, 128)


def scene(seed: int = 0) -> NDArray[np.uint8]:
    """Large shapes of every brightness with a texture that motion can be seen by."""
    rng = np.random.default_rng(seed)
    shapes = cv2.resize(
        rng.integers(0, 256, (7, 12), dtype=np.uint8), (400, 240), interpolation=cv2.INTER_CUBIC
    )
    texture = cv2.resize(rng.integers(-20, 21, (60, 100)).astype(np.float32), (400, 240))
    grey = np.clip(shapes + texture, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def pan(
    count: int, *, step: int = 2, seed: int = 0, start: int = 0, fps: float = 25.0
) -> list[Frame]:
    """A camera that moves over a scene, so many pixels a frame."""
    whole, (height, width) = scene(seed), SIZE
    return [
        Frame(
            np.ascontiguousarray(whole[20 : 20 + height, step * n : step * n + width]),
            start + n,
            pts_seconds=(start + n) / fps,
        )
        for n in range(count)
    ]


def segmenter(motion: Motion | None, backend: FakeBackend | None = None) -> Segmenter:
    return Segmenter(
        CARD, backend or FakeBackend(CARD), options=FrameOptions(motion=motion), threads=2
    )


def shown_of(moving: Moving, frames: Sequence[Frame]) -> list[Shown]:
    shown = [pair for frame in frames for pair in moving.push(frame, ("labels",))]
    return shown + list(moving.end(("labels",)))


def run(
    frames: Sequence[Frame], motion: Motion, *, live: bool = False
) -> tuple[list[Shown], FakeBackend, Moving]:
    backend = FakeBackend(CARD)
    with segmenter(motion, backend) as made:
        moving = made.moving(live=live)
        assert moving is not None
        backend.calls = 0
        shown = shown_of(moving, frames)
    return shown, backend, moving


def keys_of(shown: Sequence[Shown]) -> list[int]:
    return [frame.index for frame, _ in shown if frame.motion and frame.motion.is_key]


def labels_by_network(frames: Sequence[Frame]) -> list[NDArray[np.uint8]]:
    with segmenter(None) as made:
        return [made(Frame(frame.image_hwc)).labels for frame in frames]
