"""A picture with structure everywhere, and the same moved."""

from __future__ import annotations

import cv2
import numpy as np

from segedge.card.geometry import Size

FRAME = Size(192, 256)


def picture(seed: int = 0) -> np.ndarray:
    """BGR, of blobs of many sizes."""
    rng = np.random.default_rng(seed)
    total = np.zeros((FRAME.height, FRAME.width, 3), np.float32)
    for cell in (8, 16, 48):
        coarse = rng.normal(size=(FRAME.height // cell + 2, FRAME.width // cell + 2, 3))
        total += cv2.resize(
            coarse.astype(np.float32), (FRAME.width, FRAME.height), interpolation=cv2.INTER_CUBIC
        )
    return np.clip(128 + 40 * total, 0, 255).astype(np.uint8)


def shifted(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """What is at a pixel here was in ``image`` at the pixel plus the shift (x, y)."""
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float32)
    return cv2.remap(
        image, x + np.float32(shift[0]), y + np.float32(shift[1]), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
