"""A 64-bit hash of how a frame looks, and how far two of them are apart."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.frames.frame import Frame
from segedge.harvest.grid import luma_of


def difference_hash(frame: Frame) -> int:
    """The difference hash: a bit for each of 8 x 8 places, set where it gets brighter to the right.

    N. Krawetz, "Kind of like that", 2013, on brightness reduced by area to 9 x 8.
    """
    luma = luma_of(frame, (16, 64))
    small = cv2.resize(luma, (9, 8), interpolation=cv2.INTER_AREA)
    bits = small[:, 1:] > small[:, :-1]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distances(hashes: NDArray[np.uint64], other: int) -> NDArray[np.int64]:
    """In how many bits each of N hashes differs from another."""
    differing = (hashes ^ np.uint64(other)).view(np.uint8).reshape(-1, 8)
    counts: NDArray[np.int64] = np.unpackbits(differing, axis=1).sum(axis=1, dtype=np.int64)
    return counts
