"""Small grey images: what flow is found on, and what every motion is judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.motion.field import Displacement, MotionField

LONGEST = 320
"""Pixels of the longer side. Half as many lose thin things; half as many again double the time."""
_SHORTEST = 32
"""Of the shorter side: flow is found on coarser levels first, and a smaller image has none. OpenCV
5.0 then reads beyond its arrays: 20 x 480 crashes, 16 x 480 gives NaN."""
BLOCK = 2
"""Pixels of a grey image and axis in one block of a field: as fine as the flow is found."""
_VERY_LARGE = 6
"""Times as wide as its grey image: neighbours are much alike there."""
_TO_GREY = cv2.COLOR_BGR2GRAY
_SPARSE = 4
"""Of so many blocks in each axis one says how the exposure changed."""

Plane = NDArray[np.uint8]


@dataclass(frozen=True)
class Grey:
    """The grey image of a frame; made once, whoever compares it."""

    frame: Size
    """Height and width of the frame itself."""
    means: Plane
    """The mean of each block: what flow is found on."""
    smooth: Plane
    """The image, a little smoothed: one pixel of it stands for a block."""
    centres: Plane
    """Of it, the pixel in the middle of each block."""

    @classmethod
    def of(cls, image_hwc: NDArray[np.uint8]) -> Grey:
        """The grey image of a frame, H x W x 3 uint8 BGR.

        Of a large frame every pixel is the mean of 16, evenly spread: the mean of all takes five
        times as long, a single one loses a tenth of a point of mIoU. Of a very large one it is the
        mean of four, in half the time.
        """
        frame = Size(*image_hwc.shape[:2])
        with one_thread():
            image = _small(image_hwc, grey_size(frame))
            smooth = np.asarray(cv2.blur(image, (3, 3)), np.uint8)
            middle = slice(BLOCK // 2, None, BLOCK)
            centres = np.ascontiguousarray(smooth[middle, middle])
            shape = centres.shape[::-1]
            means = np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_AREA), np.uint8)
        return cls(frame, means, smooth, centres)

    @property
    def blocks(self) -> Size:
        """Rows and columns of the blocks of a field."""
        return Size(*self.centres.shape)


def grey_size(frame: Size) -> Size:
    """Size of the grey images of a frame."""
    ratio = min(1.0, LONGEST / max(frame.height, frame.width))
    return Size(_whole_blocks(frame.height * ratio), _whole_blocks(frame.width * ratio))


def _whole_blocks(pixels: float) -> int:
    return max(_SHORTEST, BLOCK * round(pixels / BLOCK))


def _small(image_hwc: NDArray[np.uint8], size: Size) -> Plane:
    """Grey, of this size."""
    shape = (size.width, size.height)
    if image_hwc.shape[0] < 2 * size.height or image_hwc.shape[1] < 2 * size.width:
        small = cv2.resize(image_hwc, shape, interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.cvtColor(small, _TO_GREY), np.uint8)
    twice = (2 * size.width, 2 * size.height)
    if image_hwc.shape[1] >= _VERY_LARGE * size.width:
        # Rows first: whole ones are read at the rate of the memory, single pixels are not.
        grey = cv2.cvtColor(image_hwc.take(_spread(twice[1], image_hwc), axis=0), _TO_GREY)
        larger = cv2.resize(grey, twice, interpolation=cv2.INTER_NEAREST)
    else:
        larger = cv2.resize(image_hwc, twice, interpolation=cv2.INTER_LINEAR)
        larger = cv2.cvtColor(larger, _TO_GREY)
    return np.asarray(cv2.resize(larger, shape, interpolation=cv2.INTER_AREA), np.uint8)


def _spread(rows: int, image_hwc: NDArray[np.uint8]) -> NDArray[np.intp]:
    """So many rows of an image, evenly."""
    found: NDArray[np.intp] = (np.arange(rows) + 0.5) * (image_hwc.shape[0] / rows)
    return found.astype(np.intp)


def judged(displacement: Displacement, grey: Grey, key: Grey) -> MotionField:
    """The field of a motion from a frame to a key: with what it leaves of their brightness.

    What most of the picture has in common, a camera's exposure changed.
    """
    with one_thread():
        moved = read_centres(key, cv2.split(displacement), 1.0)
        found = cv2.subtract(moved, grey.centres, dtype=cv2.CV_32F)
    differs = np.asarray(found, np.float32)
    some = differs[::_SPARSE, ::_SPARSE].reshape(-1)
    middle = some.size // 2
    differs -= np.partition(some, middle)[middle]
    return MotionField(displacement, np.abs(differs, out=differs), grey.frame)


def read_centres(
    grey: Grey,
    motion: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    factor: float,
    every: int = 1,
) -> Plane:
    """A frame at the centres of blocks (one of so many) after so many times a motion.

    The motion is two planes of Bh x Bw, x before y, in pixels of the frame.
    """
    height, width = grey.smooth.shape
    x, y = _centre_positions(*motion[0].shape, BLOCK * every)
    with one_thread():
        found = cv2.remap(
            grey.smooth,
            cv2.scaleAdd(motion[0], factor * width / grey.frame.width, x),
            cv2.scaleAdd(motion[1], factor * height / grey.frame.height, y),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return np.asarray(found, np.uint8)


@lru_cache(maxsize=8)
def positions(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of each pixel."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x, y


@lru_cache(maxsize=8)
def _centre_positions(
    rows: int, columns: int, apart: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    x, y = positions(rows, columns)
    return apart * x + BLOCK // 2, apart * y + BLOCK // 2


_COUNT_LOCK = Lock()
_inside = 0
_threads_before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV works in the calling thread alone, meanwhile.

    Its pool has a helper a core, and waits for each: beside a network that keeps all cores busy,
    that takes ten times as long as doing it alone. The setting is the process's, so it is put back
    when the last of those inside has left.
    """
    global _inside, _threads_before
    with _COUNT_LOCK:
        if _inside == 0:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _inside += 1
    try:
        yield
    finally:
        with _COUNT_LOCK:
            _inside -= 1
            if _inside == 0:
                cv2.setNumThreads(_threads_before)
