"""Images where none are given: noise with structure, on which labels vary."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size

NOISE_IMAGES = 4


def smooth_noise(size: Size, count: int = NOISE_IMAGES) -> Iterator[NDArray[np.uint8]]:
    """Random images with structure at all scales.

    White noise averages out in the first layers, so that a network answers one class everywhere
    and the comparison says nothing. Here octaves of low-frequency noise are summed, so labels
    vary over the image.
    """
    import cv2

    for seed in range(count):
        generator = np.random.default_rng(seed)
        image = np.zeros((size.height, size.width, 3), np.float32)
        for octave in (2, 4, 8, 16, 32):
            cells = (min(octave, size.height), min(octave, size.width), 3)
            coarse = generator.standard_normal(cells).astype(np.float32)
            plane = cv2.resize(coarse, (size.width, size.height), interpolation=cv2.INTER_CUBIC)
            image += plane / np.sqrt(octave)
        image = 127.5 + 60.0 * image
        yield np.clip(image, 0, 255).astype(np.uint8)
