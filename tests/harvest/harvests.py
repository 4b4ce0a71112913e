"""A network whose doubt is in the picture, frames for it, and harvests of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.frames.frame import Frame
from segedge.harvest.harvest import Harvest
from segedge.harvest.options import HarvestOptions
from segedge.segment.segmenter import Segmenter

CLASSES = ("dark", "middle", "bright")
CARD = ModelCard(CLASSES, ((0, 0, 80), (255, 0, 0), (255, 255, 0)), 48, 64, stride=8)


def segmenter() -> Segmenter:
    return Segmenter(CARD, FakeBackend(CARD))


def picture(seed: int, *, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Random blocks: each seed another picture."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (6, 8)).astype(np.uint8)
    image = blocks.repeat(size[0] // 6, axis=0).repeat(size[1] // 8, axis=1)
    return np.repeat(image[:, :, None], 3, axis=2)


def run(
    folder: Path, images: list[NDArray[np.uint8]], *, fps: float | None = 10, **options: Any
) -> Harvest:
    """Harvest the images, closed at the end."""
    harvest = Harvest(HarvestOptions(folder, **options), CARD, model="small", wall=lambda: 0.0)
    sink = harvest.sink("clip")
    with segmenter() as network:
        for index, image in enumerate(images):
            pts = None if fps is None else index / fps
            name = "clip.mp4" if fps is not None else f"shot {index}.png"
            frame = Frame(image, index, name, pts)
            sink.write(frame, network(frame))
    sink.close()
    return harvest


def size_of(folder: Path) -> int:
    """What all files of a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
