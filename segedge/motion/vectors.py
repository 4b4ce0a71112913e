"""The codec's own motion vectors: what H.264 and MPEG-4 decoders hand out with ``export_mvs``.

FFmpeg tells of every block where it was predicted from, and whether that was an earlier or a later
picture, but not *which* one: P frames reach back over the B frames between, B frames reach both
ways, and an encoder may choose among several references. So the vectors of a frame are tried as
motion over one frame, two, and up to `REACH`, and each block keeps what explains it best. Frames
without vectors (I frames; decoders for H.265, VP9 and AV1, which have none; hardware) give nothing,
and who asks must find the motion otherwise.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.motion.chain import Displacement, read_moved
from segedge.motion.grey import Grey, blocks_of, one_thread

REACH = 4
"""Frames between a picture and the one that it is predicted from, at most: x264 makes up to 3 B
frames in a row by default."""
LEAST_COVER = 0.5
"""Share of the picture that must have vectors. Intra blocks have none; they are filled from their
neighbours, and the residual tells where that is wrong."""
_CELL = 8
"""Pixels of the frame a side of what vectors are first painted on; smaller blocks share one."""
_Painting = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Displacement of each block, and which of them have one."""


def neighbour_motion(
    vectors: NDArray[Any], frame: Size, grey: Grey, before: Grey
) -> Displacement | None:
    """The motion from a frame to the one before it, by the codec's vectors.

    Args:
        vectors: PyAV's side data MOTION_VECTORS of the frame as an array: a record a block with
            w, h, dst_x, dst_y (its centre), motion_x, motion_y, motion_scale and source (negative:
            an earlier picture, positive: a later one).
        frame: Height and width of the frame.
        grey: Its grey image.
        before: That of the frame before.

    Returns:
        Bh x Bw x 2 in pixels, in blocks of `grey.BLOCK` pixels of the grey image; None where less
        than `LEAST_COVER` of the picture has vectors.
    """
    blocks = blocks_of(grey)
    best = np.zeros((blocks.height, blocks.width, 2), np.float32)
    least = np.full((blocks.height, blocks.width), np.inf, np.float32)
    coarse = [_coarse(image, blocks) for image in (grey, before)]
    for sign in (-1, 1):
        motion, cover = _painted(vectors[np.sign(vectors["source"]) == sign], frame, blocks)
        if cover.any():
            tried, cost = _likeliest(-sign * motion, cover, frame, coarse)
            better = cost < least
            best[better], least[better] = tried[better], cost[better]
    covered = least < np.inf
    if covered.mean() < LEAST_COVER:
        return None
    return best if covered.all() else _filled(best, covered)


def _painted(vectors: NDArray[Any], frame: Size, blocks: Size) -> _Painting:
    """The displacement of the vector at each block's centre."""
    rows, columns = -(-frame.height // _CELL), -(-frame.width // _CELL)
    cells = np.zeros((rows * columns, 3), np.float32)
    sizes = vectors["w"].astype(np.int32) << 8 | vectors["h"]
    for size in np.unique(sizes).tolist():
        chosen, width, height = vectors[sizes == size], size >> 8, size & 255
        move = np.ones((chosen.size, 3), np.float32)
        move[:, 0] = chosen["motion_x"] / chosen["motion_scale"]
        move[:, 1] = chosen["motion_y"] / chosen["motion_scale"]
        left, top = (
            (chosen["dst_x"] - width // 2) // _CELL,
            (chosen["dst_y"] - height // 2) // _CELL,
        )
        for across in range(max(1, width // _CELL)):
            for down in range(max(1, height // _CELL)):
                x, y = left + across, top + down
                inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
                cells[y[inside].astype(np.int64) * columns + x[inside]] = move[inside]
    row = ((np.arange(blocks.height) + 0.5) * frame.height / blocks.height).astype(int) // _CELL
    column = ((np.arange(blocks.width) + 0.5) * frame.width / blocks.width).astype(int) // _CELL
    found = cells.reshape(rows, columns, 3)[row[:, None], column]
    return np.ascontiguousarray(found[..., :2]), found[..., 2] > 0.0


def _likeliest(
    motion: Displacement, cover: NDArray[np.bool_], frame: Size, coarse: list[NDArray[np.float32]]
) -> tuple[Displacement, NDArray[np.float32]]:
    """The motion over one frame, of as many as explain the picture best; and what that leaves."""
    best, least, lowest = motion, np.empty(0, np.float32), np.inf
    for reach in range(1, REACH + 1):
        tried = motion / np.float32(reach)
        cost = np.abs(read_moved(coarse[1], tried, frame) - coarse[0])
        mean = float(cost[cover].mean())
        if mean < lowest:
            best, least, lowest = tried, cost, mean
    return best, np.where(cover, least, np.float32(np.inf))


def _coarse(image: Grey, blocks: Size) -> NDArray[np.float32]:
    """Mean brightness of each block."""
    with one_thread():
        small = cv2.resize(image, (blocks.width, blocks.height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _filled(motion: Displacement, covered: NDArray[np.bool_]) -> Displacement:
    """Blocks without a vector get the mean of those around them, the nearest ring first."""
    known = covered.astype(np.float32)
    motion = motion * known[..., None]
    with one_thread():
        while not known.all():
            around = cv2.blur(known, (3, 3), borderType=cv2.BORDER_CONSTANT)
            sums = cv2.blur(motion, (3, 3), borderType=cv2.BORDER_CONSTANT)
            new = (known == 0.0) & (around > 1e-6)
            motion[new] = sums[new] / around[new][:, None]
            known[new] = 1.0
    return motion
