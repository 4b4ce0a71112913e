"""Small grey images: what flow is found on, and what every motion is judged by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.motion.field import MotionField

LONGEST = 320
"""Pixels of the longer side. Half as many lose thin things; half as many again double the time."""
_SHORTEST = 32
"""Of the shorter side: flow is found on coarser levels first, and a smaller image has none."""
BLOCK = 2
"""Pixels of a grey image and axis in one block of a field: as fine as the flow is found."""

Grey = NDArray[np.uint8]


def grey_size(frame: Size) -> Size:
    """Size of the grey images of a frame."""
    ratio = min(1.0, LONGEST / max(frame.height, frame.width))
    return Size(_whole_blocks(frame.height * ratio), _whole_blocks(frame.width * ratio))


def _whole_blocks(pixels: float) -> int:
    return max(_SHORTEST, BLOCK * round(pixels / BLOCK))


def grey_of(image_hwc: NDArray[np.uint8]) -> Grey:
    """The grey image of a frame, H x W x 3 uint8 BGR; made once a frame, whoever compares it.

    Of a large frame every pixel is the mean of 16, evenly spread: the mean of all takes five times
    as long, a single one loses a tenth of a point of mIoU.
    """
    frame = Size(*image_hwc.shape[:2])
    size = grey_size(frame)
    twice = Size(2 * size.height, 2 * size.width)
    is_large = frame.height >= twice.height and frame.width >= twice.width
    first = twice if is_large else size
    with one_thread():
        small = cv2.resize(image_hwc, (first.width, first.height), interpolation=cv2.INTER_LINEAR)
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        if is_large:
            grey = cv2.resize(grey, (size.width, size.height), interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def blocks_of(grey: Grey) -> Size:
    """Rows and columns of the blocks of a field."""
    return Size(*(side // BLOCK for side in grey.shape))


def field_of(flow: NDArray[np.float32], grey: Grey, key: Grey, frame: Size) -> MotionField:
    """The field of a flow in pixels of the grey images, h x w x 2, judged by them."""
    height, width = grey.shape
    blocks = blocks_of(grey)
    shape = (blocks.width, blocks.height)
    with one_thread():
        differs = cv2.absdiff(read_at(key, flow), grey)
        residual = cv2.resize(differs, shape, interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(flow, shape, interpolation=cv2.INTER_LINEAR)
    pixels = np.array([frame.width / width, frame.height / height], np.float32)
    return MotionField(coarse * pixels, residual.astype(np.float32), frame)


def field_between(
    displacement: NDArray[np.float32], grey: Grey, key: Grey, frame: Size
) -> MotionField:
    """The field of a displacement of blocks, in pixels of the frame, judged by the grey images."""
    height, width = grey.shape
    pixels = np.array([width / frame.width, height / frame.height], np.float32)
    with one_thread():
        flow = cv2.resize(displacement * pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return field_of(np.asarray(flow, np.float32), grey, key, frame)


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


def centres(grey: Grey) -> Grey:
    """One pixel a block, in its middle."""
    return np.ascontiguousarray(grey[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK])


def read_centres(
    grey: Grey, motion: NDArray[np.float32], factor: float, frame: Size, every: int = 1
) -> Grey:
    """The pixels of `centres` (one of so many) moved by so many times a motion, 2 x Bh x Bw."""
    x, y = _centre_positions(*motion.shape[1:], BLOCK * every)
    scale_x = np.float32(factor * grey.shape[1] / frame.width)
    scale_y = np.float32(factor * grey.shape[0] / frame.height)
    with one_thread():
        found = cv2.remap(
            grey, x + motion[0] * scale_x, y + motion[1] * scale_y, cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
    return np.asarray(found, np.uint8)


@lru_cache(maxsize=8)
def _centre_positions(
    rows: int, columns: int, apart: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    x, y = _positions(rows, columns)
    return apart * x + BLOCK // 2, apart * y + BLOCK // 2


def read_at(values: NDArray[Any], moved: NDArray[np.float32]) -> NDArray[Any]:
    """Bilinear at each pixel plus its displacement (h x w x 2, x before y), clamped."""
    x, y = _positions(*moved.shape[:2])
    with one_thread():
        found = cv2.remap(
            values, x + moved[..., 0], y + moved[..., 1], cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
    return np.asarray(found)


@lru_cache(maxsize=8)
def _positions(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of each pixel."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x, y
