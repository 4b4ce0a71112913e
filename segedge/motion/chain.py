"""Steps from frame to frame, put one behind the other and turned around.

All of it happens among the blocks of fields of equal shape, in pixels of the frame.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from segedge.card.geometry import Size
from segedge.motion.field import Displacement
from segedge.motion.grey import one_thread, positions


def composed(first: Displacement, then: Displacement, frame: Size) -> Displacement:
    """The motion over two steps: ``first``, and ``then`` from where that leads."""
    return first + _read_moved(then, first, frame)


def turned_around(there: Displacement, frame: Size) -> Displacement:
    """The motion back, from the motion there: what ``there`` leads to comes from here.

    It is that of where the motion itself leads back to. Looking again from there brings it nearer,
    by how fast the motion varies from place to place; no figure of `benchmarks/motion.py` saw it.
    """
    return -_read_moved(there, -there, frame)


def _read_moved(values: Displacement, moved: Displacement, frame: Size) -> Displacement:
    """Values at the blocks' centres after they have moved, clamped at the border."""
    place, scale = _places(Size(*values.shape[:2]), frame)
    where = moved * scale
    where += place
    with one_thread():
        found = cv2.remap(values, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


@lru_cache(maxsize=4)
def _places(blocks: Size, frame: Size) -> tuple[Displacement, Displacement]:
    """Column and row of each block, and blocks a pixel along each axis, both Bh x Bw x 2.

    Spread out, because NumPy works along the last axis, two at a time.
    """
    place = np.stack(positions(blocks.height, blocks.width), axis=-1)
    scale = np.empty_like(place)
    scale[:] = blocks.width / frame.width, blocks.height / frame.height
    return place, scale
