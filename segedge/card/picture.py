"""A test picture made by integer arithmetic alone: the same bytes on every machine, for ever.

Gradients (smooth colour fields at five scales), edges (rectangles of constant colour) and texture
(a value a pixel, in some of the rectangles), so that labels vary and every operator has something
to get wrong. A proof names a picture by these few numbers; whoever opens the file makes it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.errors import CardError

Triple = tuple[int, int, int]

_OCTAVES = {2: 28, 4: 20, 8: 14, 16: 10, 32: 7}
"""Cells along an axis to the strength of that scale: about one over the root of the cells."""
_CELLS = 32
_RECTANGLES = (11, 13)
"""Rows and columns of rectangles; no power of two, so that edges lie anywhere on a grid."""
_PARTS = (29, 13, 9)
"""Deviation of gradients, rectangles and texture, in 32nds of the contrast; the squares sum to
about one."""
MOST_PIXELS = 1 << 26
_STRIP = 16
"""Rows that are made at a time: arrays small enough to take memory that was used before."""


@dataclass(frozen=True)
class Picture:
    """What a test picture is made from."""

    height: int
    width: int
    seed: int
    mean: Triple = (118, 118, 118)
    """Of each channel, blue first, 0..255."""
    contrast: Triple = (52, 52, 52)
    """Standard deviation of each channel, about."""

    def __post_init__(self) -> None:
        levels = (*self.mean, *self.contrast)
        if len(levels) != 6 or not all(0 <= level <= 255 for level in levels):
            raise CardError("a test picture has three means and contrasts, 0..255")
        if not (self.height > 0 and self.width > 0 and self.height * self.width <= MOST_PIXELS):
            raise CardError(f"a test picture of {self.height}x{self.width} cannot be made")

    @property
    def size(self) -> Size:
        """Height and width."""
        return Size(self.height, self.width)

    def pixels(self) -> NDArray[np.uint8]:
        """The picture, H x W x 3 BGR."""
        strips = _Strips.of(self)
        made = np.empty((self.height, 3 * self.width), np.uint8)
        for first in range(0, self.height, _STRIP):
            rows = slice(first, min(first + _STRIP, self.height))
            strips.fill(rows, made[rows])
        return made.reshape(self.height, self.width, 3)


@dataclass(frozen=True)
class _Strips:
    """Tables from which some rows of a picture are made at a time, while they fit into a cache.

    Channels lie beside each other along a row, so that all arithmetic runs over long vectors.
    """

    nodes: NDArray[np.int16]
    """Of the gradients, at each row of the picture."""
    steps: NDArray[np.int16]
    """From each of them to the next along the row."""
    node: NDArray[np.int64]
    """The one before each pixel's channel."""
    along: NDArray[np.int16]
    """The way from there to the next in 64 parts."""
    block: NDArray[np.int64]
    """The row of rectangles that each row of the picture lies in."""
    edges: NDArray[np.int16]
    """What each row of rectangles adds along the picture's."""
    texture: NDArray[np.int16]
    """How strong its texture is there; a value a pixel."""
    first: int
    """What the numbers of pixels begin at, from which the texture is mixed."""

    @classmethod
    def of(cls, picture: Picture) -> _Strips:
        seed, size = picture.seed, (picture.height, picture.width)
        smooth, edges, texture = (
            [part * level // 32 for level in picture.contrast] for part in _PARTS
        )
        gradients = _scaled(_nodes(seed), smooth)
        nodes = _between_rows(gradients, picture.height).reshape(picture.height, -1)
        left, along = _steps(_CELLS, picture.width, 0)
        row, column = (
            np.arange(length) * count // length
            for length, count in zip(size, _RECTANGLES, strict=True)
        )
        blocks = _scaled(_noise(seed + 1, *_RECTANGLES, 3), edges)
        blocks += np.array(picture.mean, np.int16)
        textured = _noise(seed + 2, *_RECTANGLES, 1)[:, :, 0] > 0
        return cls(
            nodes=nodes,
            steps=nodes[:, 3:] - nodes[:, :-3],
            node=_channels(left),
            along=along.repeat(3),
            block=row,
            edges=blocks.reshape(len(blocks), -1).take(_channels(column), axis=1),
            texture=(textured * np.int16(2 * max(texture))).take(column, axis=1),
            first=_first(seed + 3),
        )

    def fill(self, rows: slice, target: NDArray[np.uint8]) -> None:
        """Write these rows of the picture."""
        block, width = self.block[rows], self.texture.shape[1]
        field = self.steps[rows].take(self.node, axis=1)
        field *= self.along
        field >>= 6
        field += self.nodes[rows].take(self.node, axis=1)
        field += self.edges.take(block, axis=0)
        grain = _mixed(self.first, rows.start * width, rows.stop * width).reshape(-1, width)
        grain *= self.texture.take(block, axis=0)
        grain >>= 7
        field += grain.repeat(3, axis=1)
        np.clip(field, 0, 255, out=field)
        target[:] = field


def _channels(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the three channels of these pixels lie."""
    return (3 * pixels[:, None] + np.arange(3)).reshape(-1)


def _nodes(seed: int) -> NDArray[np.int16]:
    """All scales added up where cells of the finest meet: 33 x 33 x 3."""
    total = np.zeros((_CELLS + 1, _CELLS + 1, 3), np.int16)
    for cells, strength in _OCTAVES.items():
        coarse = _noise(seed * 64 + cells, cells + 1, cells + 1, 3)
        total += _bilinear(coarse, _CELLS + 1, _CELLS + 1, ends=1) * np.int16(strength) >> 5
    return total


def _scaled(values: NDArray[np.int16], deviations: list[int]) -> NDArray[np.int16]:
    """Each channel about a mean of 0 with this standard deviation, -255..255."""
    wide = values.astype(np.int64)
    count = values.shape[0] * values.shape[1]
    wide -= wide.sum(axis=(0, 1)) // count
    squares = (wide * wide).sum(axis=(0, 1)) // count
    found = np.array([max(math.isqrt(int(square)), 1) for square in squares])
    wide = wide * np.array(deviations, np.int64) // found
    return np.asarray(np.clip(wide, -255, 255), np.int16)


def _bilinear(
    nodes: NDArray[np.int16], height: int, width: int, *, ends: int = 0
) -> NDArray[np.int16]:
    """Between nodes of -255..255, in steps of 1/64; with ``ends`` the last pixel is the last node.

    The products stay within 16 bits.
    """
    left, along = _steps(nodes.shape[1] - 1, width, ends)
    rows = _between_rows(nodes, height, ends=ends)
    return _between(rows.take(left, axis=1), rows.take(left + 1, axis=1), along[None, :, None])


def _between_rows(nodes: NDArray[np.int16], height: int, *, ends: int = 0) -> NDArray[np.int16]:
    top, down = _steps(nodes.shape[0] - 1, height, ends)
    return _between(nodes.take(top, axis=0), nodes.take(top + 1, axis=0), down[:, None, None])


def _between(
    before: NDArray[np.int16], after: NDArray[np.int16], parts: NDArray[np.int16]
) -> NDArray[np.int16]:
    after -= before
    after *= parts
    after >>= 6
    after += before
    return np.asarray(after, np.int16)


def _steps(cells: int, length: int, ends: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """The node before each pixel, and the way from there to the next in 64 parts."""
    whole = np.arange(length, dtype=np.int64) * (cells * 64) // max(length - ends, 1)
    before = np.minimum(whole >> 6, cells - 1)
    return before, (whole - (before << 6)).astype(np.int16)


def _noise(seed: int, height: int, width: int, channels: int) -> NDArray[np.int16]:
    """Values -128..127 without order."""
    return _mixed(_first(seed), 0, height * width * channels).reshape(height, width, channels)


def _first(seed: int) -> int:
    """What the numbers of a seed's places begin at."""
    return seed * 0x9E3779B1 & 0xFFFFFFFF


def _mixed(first: int, start: int, stop: int) -> NDArray[np.int16]:
    """The values of some places: each place's number through a mixer of integers.

    The mixer is "lowbias32" of Chris Wellons' hash prospector (public domain).
    """
    x = np.arange(start, stop, dtype=np.uint32)
    x += np.uint32(first)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    x >>= np.uint32(24)
    values = x.astype(np.int16)
    values -= np.int16(128)
    return values
