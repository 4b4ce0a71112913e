"""The codec's own motion vectors: what H.264 and MPEG-4 decoders hand out with ``export_mvs``.

FFmpeg tells of every block where it was predicted from, and whether that was an earlier or a later
picture, but not *which* one: P frames reach back over the B frames between, B frames reach both
ways, and an encoder may choose among several references. So the vectors of a frame are tried as
motion over one frame, two, and up to `REACH`, and each block keeps what explains it best. Frames
without vectors (I frames; decoders for H.265, VP9 and AV1, which have none; hardware) give nothing,
and who asks must find the motion otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.motion.field import Displacement
from segedge.motion.grey import Grey, one_thread, read_centres

REACH = 4
"""Frames between a picture and the one that it is predicted from, at most: x264 makes up to 3 B
frames in a row by default."""
LEAST_COVER = 0.5
"""Share of the picture that must have vectors. Intra blocks have none; they are filled from their
neighbours, and the residual tells where that is wrong."""
_CELL = 8
"""Pixels of the frame a side of what vectors are first painted on; smaller blocks share one."""
_EVERY, _VOTES = 4, 0.05
"""Of so many blocks in each axis one is tried first; a motion must win this share of them."""
Planes = NDArray[np.float32]
"""2 x Bh x Bw: x, then y."""


def vector_step(vectors: NDArray[Any], grey: Grey, before: Grey) -> Displacement | None:
    """The motion from a frame to the one before it, by the codec's vectors.

    Args:
        vectors: PyAV's side data MOTION_VECTORS of the frame as an array: a record a block with
            w, h, dst_x, dst_y (its centre), motion_x, motion_y, motion_scale and source (negative:
            an earlier picture, positive: a later one).
        grey: The frame.
        before: The one before it.

    Returns:
        None where less than `LEAST_COVER` of the picture has vectors.
    """
    pair = _Pair(grey, before)
    move = np.stack([vectors["motion_x"], vectors["motion_y"]]).astype(np.float32)
    move /= np.maximum(vectors["motion_scale"], 1).astype(np.float32)
    tries = []
    for sign in (-1, 1):
        owner = _owners(vectors, np.sign(vectors["source"]) == sign, grey)
        if (owner >= 0).any():
            motion = move.take(owner, axis=1, mode="clip")
            tries += [_Try(motion, owner >= 0, -sign / reach) for reach in range(1, REACH + 1)]
    if not tries:
        return None
    tries = _likely(tries, pair)
    costs = np.stack([pair.cost(tried) for tried in tries])
    choice = costs.argmin(axis=0)
    covered = costs.min(axis=0) < np.inf
    if covered.mean() < LEAST_COVER:
        return None
    best = tries[0].motion * np.float32(tries[0].factor)
    for number, tried in enumerate(tries[1:], 1):
        np.copyto(best, tried.motion * np.float32(tried.factor), where=choice == number)
    found = np.ascontiguousarray(best.transpose(1, 2, 0))
    return found if covered.all() else _filled(found, covered)


@dataclass(frozen=True)
class _Try:
    """Vectors as motion over so many frames."""

    motion: Planes
    cover: NDArray[np.bool_]
    factor: float

    def sparse(self, every: int) -> _Try:
        """One block of so many in each axis."""
        return _Try(self.motion[:, ::every, ::every], self.cover[::every, ::every], self.factor)


@dataclass(frozen=True)
class _Pair:
    """A frame and the one before it."""

    here: Grey
    there: Grey

    def cost(self, tried: _Try, every: int = 1) -> NDArray[np.float32]:
        """How badly a motion explains each block and those around it, and the whole picture.

        The whole picture decides where a block is flat; most of one has the same reference.
        """
        moved = read_centres(self.there, tried.motion, tried.factor, every)
        with one_thread():
            differs = cv2.absdiff(moved, np.ascontiguousarray(self.here.centres[::every, ::every]))
            around = cv2.blur(differs, (3, 3)).astype(np.float32)
        mean = differs[tried.cover].mean() if tried.cover.any() else 255.0
        cost = np.where(tried.cover, around + np.float32(mean), np.float32(np.inf))
        return np.asarray(cost, np.float32)


def _likely(tries: list[_Try], pair: _Pair) -> list[_Try]:
    """Those that explain some of a few blocks best: mostly one, and trying all takes long."""
    costs = np.stack([pair.cost(tried.sparse(_EVERY), _EVERY) for tried in tries])
    votes = np.bincount(costs.argmin(axis=0).ravel(), minlength=len(tries))
    return [
        tried for tried, count in zip(tries, votes, strict=True) if count > _VOTES * votes.sum()
    ]


def _owners(vectors: NDArray[Any], chosen: NDArray[np.bool_], grey: Grey) -> NDArray[np.int32]:
    """The number of the chosen vector at each block's centre, -1 where there is none."""
    frame, blocks = grey.frame, grey.blocks
    rows, columns = -(-frame.height // _CELL), -(-frame.width // _CELL)
    cells = np.full(rows * columns, -1, np.int32)
    number = np.flatnonzero(chosen).astype(np.int32)
    width, height = vectors["w"][number].astype(np.int32), vectors["h"][number].astype(np.int32)
    left = (vectors["dst_x"][number] - width // 2) // _CELL
    top = (vectors["dst_y"][number] - height // 2) // _CELL
    for across in range(0, int(width.max(initial=0)), _CELL):
        for down in range(0, int(height.max(initial=0)), _CELL):
            x, y = left + across // _CELL, top + down // _CELL
            inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            inside &= (width > across) & (height > down)
            cells[(y * columns + x)[inside]] = number[inside]
    row = ((np.arange(blocks.height) + 0.5) * frame.height / blocks.height).astype(int) // _CELL
    column = ((np.arange(blocks.width) + 0.5) * frame.width / blocks.width).astype(int) // _CELL
    return np.asarray(cells.reshape(rows, columns)[row[:, None], column])


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
