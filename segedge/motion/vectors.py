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
from segedge.motion.chain import Displacement
from segedge.motion.grey import Grey, blocks_of, centres, one_thread, read_centres

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
    there, here = _smooth(before), centres(_smooth(grey))
    for sign in (-1, 1):
        motion, cover = _painted(vectors[np.sign(vectors["source"]) == sign], frame, blocks)
        for reach in range(1, REACH + 1) if cover.any() else ():
            tried = motion * np.float32(-sign / reach)
            cost = _cost(tried, cover, frame, here, there)
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
    covered: NDArray[np.bool_] = found[..., 2] > 0.0
    return np.ascontiguousarray(found[..., :2]), covered


def _cost(
    tried: Displacement, cover: NDArray[np.bool_], frame: Size, here: Grey, there: Grey
) -> NDArray[np.float32]:
    """How badly a motion explains each block and those around it, and the whole picture.

    The whole picture decides where a block is flat; most of one has the same reference.
    """
    with one_thread():
        differs = cv2.absdiff(read_centres(there, tried, frame), here).astype(np.float32)
        around = np.asarray(cv2.blur(differs, (3, 3)), np.float32)
    cost = around + differs[cover].mean()
    return np.asarray(np.where(cover, cost, np.inf), np.float32)


def _smooth(image: Grey) -> Grey:
    """A little: one pixel stands for a block."""
    with one_thread():
        return np.asarray(cv2.blur(image, (3, 3)), np.uint8)


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
