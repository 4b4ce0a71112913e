"""A frame of a few pixels: what loads or compiles all kernels that every frame needs."""

from __future__ import annotations

import numpy as np

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cpu.overlay import Blend
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers


def run_small_frame(card: ModelCard | None = None) -> None:
    """A frame of a few pixels, through what every frame of such a card goes through."""
    small = ModelCard(("dark", "bright"), ((0, 0, 0), (255, 255, 255)), 32, 64, stride=8)
    if card is not None:
        small = small.replace(resize=card.resize, head=card.head)
    frame, network, grid = Size(40, 72), small.input_size, Size(4, 8)
    geometry, alone = small.place(frame, network), Workers(1)
    image = np.zeros((frame.height, frame.width, 3), np.uint8)
    tail = Tail(small, geometry, grid, workers=alone)
    preprocessor = Preprocess(small, geometry, workers=alone)
    preprocessor.run(image, np.zeros(preprocessor.shape, np.float32))
    is_labels = small.head == "labels"
    shape = (1, 1 if is_labels else small.channels, grid.height, grid.width)
    output = np.zeros(shape, np.int64 if is_labels else np.float32)
    blend = Blend.of(small.palette_rgb, 0.5)
    tail.run(output, overlay=np.empty_like(image), frame=image, blend=blend)
