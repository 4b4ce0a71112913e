"""The frames that are measured where none are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_POSITIONS = 12
"""Of a camera that turns: pictures that are kept in memory."""
_STEP_PX = 4
"""Pixels from one to the next."""


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


def pan(height: int, width: int) -> list[NDArray[np.uint8]]:
    """The picture as a camera sees it that turns there and back: a sequence without an end."""
    import numpy as np

    wide = street_like(height, width + _STEP_PX * (_POSITIONS - 1))
    there = [
        np.ascontiguousarray(wide[:, _STEP_PX * n : _STEP_PX * n + width])
        for n in range(_POSITIONS)
    ]
    return [*there, *there[-2:0:-1]]
