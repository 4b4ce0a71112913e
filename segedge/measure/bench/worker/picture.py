"""The frame that is measured where none is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def street_like(height: int, width: int) -> NDArray[np.uint8]:
    """A drawn picture with areas and edges: noise would be unfair to the tail, grey too kind."""
    import cv2
    import numpy as np

    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([200 - 120 * y / height, 90 + 80 * x / width, 60 + 90 * y / height], axis=2)
    picture = np.ascontiguousarray(image.astype(np.uint8))
    random = np.random.default_rng(0)
    for _ in range(40):
        left, top = (int(random.integers(0, limit)) for limit in (width, height))
        size = int(random.integers(1, 1 + max(1, height // 4)))
        color = [int(value) for value in random.integers(0, 256, 3)]
        cv2.rectangle(picture, (left, top), (left + size, top + 2 * size), color, -1)
    return picture
