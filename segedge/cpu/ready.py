"""Loading Numba and the kernels beside other work: the first frame need not wait for them."""

from __future__ import annotations

import contextlib
import threading

import numpy as np

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cpu.overlay import Blend
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers


def make_ready() -> threading.Thread:
    """Begin to load, in a thread; join it where that shall be done.

    Numba's own start and the kernels from its cache take longer than many a model takes to open,
    whose library lets other threads run meanwhile. What fails here fails again, and is told, where
    the kernels are used.
    """
    thread = threading.Thread(target=_try, name="segedge-ready", daemon=True)
    thread.start()
    return thread


def _try() -> None:
    with contextlib.suppress(Exception):
        run_small_frame()


def run_small_frame() -> None:
    """A frame of a few pixels, through what every frame goes through."""
    card = ModelCard(("dark", "bright"), ((0, 0, 0), (255, 255, 255)), 32, 64, stride=8)
    frame, network, grid = Size(40, 72), card.input_size, Size(4, 8)
    geometry, alone = card.place(frame, network), Workers(1)
    image = np.zeros((frame.height, frame.width, 3), np.uint8)
    tail = Tail(card, geometry, grid, workers=alone)
    preprocessor = Preprocess(card, geometry, workers=alone)
    preprocessor.run(image, np.zeros(preprocessor.shape, np.float32))
    logits = np.zeros((1, card.channels, grid.height, grid.width), np.float32)
    blend = Blend.of(card.palette_rgb, 0.5)
    tail.run(logits, overlay=np.empty_like(image), frame=image, blend=blend)
