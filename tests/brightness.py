"""Four classes by brightness, as `FakeBackend` tells them, and images that have them all."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard

CLASSES = ("night", "dusk", "day", "glare")
PALETTE = ((0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0))
CARD = ModelCard(CLASSES, PALETTE, 48, 64, stride=8)


def image_of(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise: large regions of every brightness."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
