"""The slow truth of carried logits: what both fast paths must compute, in NumPy and float64.

The network sees key frames only. The logits of another frame are read from those of one or two
keys, at where its pixels were then, onto a grid ``finer`` times as fine as the network's:

    point i   lies at grid position i / finer of the frame, which is at pixel p
    d         the field's displacement at p, bilinear between the centres of its blocks
    moved     p + d, but never beyond the frame (a point that lies outside stays or comes nearer)
    logits    the key's, bilinear at the grid position of ``moved``, clamped at the border
    weight    1 / (residual + LEAST_RESIDUAL) / frames between, of two keys

The tail reads the carried logits as it reads the network's, through a map `finer` times as large.
Points of the network's grid are points of the finer one, so without motion nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, Geometry, Size
from segedge.motion.carry import FUSED_LEVELS, LEAST_RESIDUAL
from segedge.motion.field import MotionField

_HUGE = 1e30
_Plane = NDArray[np.float64]


@dataclass(frozen=True)
class Key:
    """A key frame, as another frame sees it."""

    logits: NDArray[Any]
    """The network's, 1 x C x Gh x Gw, or NHWC as the card says."""
    field: MotionField
    """From the other frame to this one."""
    frames: float = 1.0
    """How far apart both are, in frames, above 0."""


def carry(
    keys: Sequence[Key], card: ModelCard, geometry: Geometry, *, finer: int
) -> NDArray[np.float32]:
    """The logits of a frame, from one or two keys.

    Args:
        keys: One, or one on either side of the frame.
        card: What their logits mean.
        geometry: How each frame lies in the network's input.
        finer: Carried points a point of the network's grid and axis.

    Returns:
        float32, 1 x C x `carry.finer_grid`, or NHWC as the card says.
    """
    read = [_carry_one(key, card, geometry, finer) for key in keys]
    planes, total = read[0]
    for other, weight in read[1:]:
        total = total + weight
        planes = planes + weight / total * (other - planes)
    if card.logits_layout == "nhwc":
        planes = planes.transpose(1, 2, 0)
    return np.ascontiguousarray(planes[None], np.float32)


def _carry_one(
    key: Key, card: ModelCard, geometry: Geometry, finer: int
) -> tuple[NDArray[np.float64], _Plane]:
    """Logits of one key at the points of the finer grid, and the key's weight there."""
    planes = finite_planes(key.logits, card)
    grid = card.grid_size(key.logits.shape)
    maps = geometry.grid_from_frame(grid, align_corners=card.align_corners)
    y, pixel_y = _points(maps.y, grid.height, finer)
    x, pixel_x = _points(maps.x, grid.width, finer)
    field, frame = key.field, geometry.frame
    values = np.concatenate([field.displacement, field.residual[..., None]], axis=2)
    down = _block_position(pixel_y, frame.height, field.blocks.height)[:, None]
    across = _block_position(pixel_x, frame.width, field.blocks.width)[None, :]
    move_x, move_y, residual = read_bilinear(
        np.asarray(values, np.float64).transpose(2, 0, 1), *np.broadcast_arrays(down, across)
    )
    move_y = _inside(move_y, pixel_y[:, None], frame.height)
    move_x = _inside(move_x, pixel_x[None, :], frame.width)
    moved = read_bilinear(
        planes,
        np.clip(y[:, None] + maps.y.scale * move_y, 0.0, grid.height - 1.0),
        np.clip(x[None, :] + maps.x.scale * move_x, 0.0, grid.width - 1.0),
    )
    return moved, 1.0 / ((np.clip(residual, 0.0, 255.0) + LEAST_RESIDUAL) * key.frames)


def past_share(
    field: MotionField, card: ModelCard, geometry: Geometry, grid: Size, *, share: float
) -> NDArray[np.float32]:
    """Gh x Gw: how much of carried logits stays at each point of a key frame's grid.

    It is ``share`` where motion explains the image, and less the more is left over, down to none at
    `FUSED_LEVELS` grey levels.
    """
    maps = geometry.grid_from_frame(grid, align_corners=card.align_corners)
    _, pixel_y = _points(maps.y, grid.height, 1)
    _, pixel_x = _points(maps.x, grid.width, 1)
    down = _block_position(pixel_y, geometry.frame.height, field.blocks.height)[:, None]
    across = _block_position(pixel_x, geometry.frame.width, field.blocks.width)[None, :]
    (residual,) = read_bilinear(
        np.asarray(field.residual, np.float64)[None], *np.broadcast_arrays(down, across)
    )
    return np.asarray(share * np.clip(1.0 - residual / FUSED_LEVELS, 0.0, 1.0), np.float32)


def fused(
    network: NDArray[Any], carried: NDArray[Any], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A key frame's logits, leaning on those carried to it: C x Gh x Gw, by `past_share`.

    Where either is not finite the network's stay.
    """
    with np.errstate(invalid="ignore"):
        mixed = network + share * (carried - network)
    return np.where(np.isfinite(mixed), mixed, network).astype(np.float32)


def finite_planes(logits: NDArray[Any], card: ModelCard) -> NDArray[np.float64]:
    """C x Gh x Gw; infinite logits are huge, NaN as minus infinity: neither can spread."""
    planes = np.asarray(logits[0], np.float64)
    if card.logits_layout == "nhwc":
        planes = planes.transpose(2, 0, 1)
    return np.clip(np.where(np.isnan(planes), -_HUGE, planes), -_HUGE, _HUGE)


def read_bilinear(planes: NDArray[np.float64], y: _Plane, x: _Plane) -> NDArray[np.float64]:
    """Planes at positions inside them."""
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    bottom = np.minimum(top + 1, planes.shape[1] - 1)
    right = np.minimum(left + 1, planes.shape[2] - 1)
    above = planes[:, top, left] + (planes[:, top, right] - planes[:, top, left]) * (x - left)
    below = planes[:, bottom, left]
    below = below + (planes[:, bottom, right] - below) * (x - left)
    return np.asarray(above + (below - above) * (y - top))


def _points(axis: AxisMap, grid: int, finer: int) -> tuple[_Plane, _Plane]:
    """Position of each carried point on the network's grid, and the pixel of the frame there."""
    position = np.arange(finer * (grid - 1) + 1) / finer
    if axis.scale == 0.0:  # corners of a single pixel: every pixel reads the one grid point
        return position, np.zeros_like(position)
    return position, (position - axis.offset) / axis.scale


def _block_position(pixel: _Plane, pixels: int, blocks: int) -> _Plane:
    """Where pixels lie among the centres of blocks."""
    return np.clip((pixel + 0.5) * blocks / pixels - 0.5, 0.0, blocks - 1.0)


def _inside(move: _Plane, pixel: _Plane, pixels: int) -> _Plane:
    """The displacement, cut where it leaves the frame; NaN counts as one up or left."""
    least = np.minimum(pixel, 0.0) - pixel
    most = np.maximum(pixel, pixels - 1.0) - pixel
    return np.minimum(np.where(move > least, move, least), most)
