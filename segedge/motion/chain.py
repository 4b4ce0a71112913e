"""From frame to frame, on to the key: fields put one behind the other, and turned around.

All of it happens among the blocks of fields of equal shape, in pixels of the frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.motion.grey import read_at

Displacement = NDArray[np.float32]
"""Bh x Bw x 2 of a `MotionField`."""
_ROUNDS = 3
"""Of turning around: each brings it nearer, by how fast the motion varies from place to place."""


def composed(first: Displacement, then: Displacement, frame: Size) -> Displacement:
    """The motion over two steps: ``first``, and ``then`` from where that leads."""
    return first + read_moved(then, first, frame)


def turned_around(there: Displacement, frame: Size) -> Displacement:
    """The motion back, from the motion there: what ``there`` leads to comes from here."""
    back = -there
    for _ in range(_ROUNDS):
        back = -read_moved(there, back, frame)
    return back


def read_moved(
    values: NDArray[np.float32], moved: Displacement, frame: Size
) -> NDArray[np.float32]:
    """Values at the blocks' centres after they have moved, clamped at the border."""
    rows, columns = values.shape[:2]
    scale = np.array([columns / frame.width, rows / frame.height], np.float32)
    return read_at(values, moved * scale)
