"""Carrier: logits of key frames, carried to another frame; see `segedge.reference.motion`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, Geometry, Size
from segedge.cpu import plan
from segedge.cpu.arrays import FlatOutput
from segedge.cpu.kernels import motion
from segedge.cpu.kernels.motion import Blocks, Places, Points, Way
from segedge.cpu.kernels.tables import TILE
from segedge.cpu.workers import Workers, shared_workers
from segedge.errors import UsageError
from segedge.motion.carry import FINER, LEAST_RESIDUAL, finer_grid, finer_map
from segedge.motion.field import MotionField

KEYS = 2
"""At most: one on either side."""


@dataclass(frozen=True)
class Key:
    """A key frame, as another frame sees it."""

    logits: NDArray[np.float32]
    """From `Carrier.keep`, Gh x Gw x channels filled up."""
    field: MotionField
    """From the other frame to this one."""
    frames: float = 1.0
    """How far apart both are, in frames, above 0."""


class Carrier:
    """Reads the logits of keys at where a frame's pixels were. Used by one thread at a time."""

    def __init__(
        self,
        card: ModelCard,
        geometry: Geometry,
        grid: Size,
        *,
        finer: int = FINER,
        workers: Workers | None = None,
    ) -> None:
        """Prepare tables and scratch.

        Args:
            card: What the network's output means.
            geometry: How each frame lies in the network's input.
            grid: Height and width of the network's logits.
            finer: Carried points a point of that grid and axis.
            workers: Threads to share the work; the process-wide pool by default.

        Raises:
            UsageError: The network gives labels.
        """
        if card.head == "labels":
            raise UsageError(
                "a network that gives labels cannot be carried along by motion",
                facts={"needed": "logits"},
                fix="export it again without its argmax, or run it on every frame",
            )
        self._workers = workers or shared_workers()
        self._frame = geometry.frame
        self._plane = geometry.grid_from_frame(grid, align_corners=card.align_corners)
        self._finer, self._grid = finer, finer_grid(grid, finer)
        is_nhwc = card.logits_layout == "nhwc"
        self._carried = FlatOutput(card, self._grid, self._workers)
        self._shape = _shape(self._grid, card.channels, is_nhwc)
        self._pixels = (
            _pixels(self._plane.y, grid.height, finer),
            _pixels(self._plane.x, grid.width, finer),
        )
        self._rows = _points(self._plane.y, grid.height, finer, geometry.frame.height)
        self._columns = _points(self._plane.x, grid.width, finer, geometry.frame.width)
        self._blocks: dict[Size, tuple[Blocks, Blocks]] = {}
        self._output = FlatOutput(card, grid, self._workers)
        self._ticket = np.zeros(1, np.int64)
        self._places: list[tuple[Places, Places]] = []
        channels = self._output.channels
        self._kept = (grid.height, grid.width, -(-channels // TILE) * TILE)
        self._tiles = np.zeros((self._workers.count, TILE, TILE), np.float32)
        self._fields = [np.empty((3, 0, 0), np.float32)] * KEYS
        self._arguments: tuple[Any, ...] = ()

    @property
    def grid(self) -> Size:
        """Height and width of the carried logits."""
        return self._grid

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the carried logits: 1 x C x Gh x Gw, or NHWC as the card says."""
        return self._shape

    @property
    def axes(self) -> tuple[plan.Axis, plan.Axis]:
        """Tables of rows and columns for a `Tail` that reads the carried logits."""
        finer = finer_map(self._plane, self._finer)
        return (
            plan.bilinear_axis(self._frame.height, self._grid.height, finer.y),
            plan.bilinear_axis(self._frame.width, self._grid.width, finer.x),
        )

    def keep(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """A copy of a key's logits, float32 or float16, as `run` reads them: Gh x Gw x channels.

        Raises:
            ModelError: They do not have the shape that the card and the grid say.
        """
        kept = np.empty(self._kept, np.float32)
        self._output.take(logits)
        motion.keep_finite(self._output.flat, self._output.strides, self._output.channels, kept)
        self._output.release()
        return kept

    def run(self, keys: Sequence[Key], out: NDArray[np.float32]) -> None:
        """Carry the logits of one or two keys to a frame.

        Args:
            keys: One, or one on either side of the frame.
            out: C-contiguous float32 of `shape`; receives the logits.

        Raises:
            UsageError: No key, more than two, or ``out`` is something else.
        """
        if not 1 <= len(keys) <= KEYS:
            raise UsageError(
                "logits are carried from one key or two", facts={"found": str(len(keys))}
            )
        if out.shape != self._shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise UsageError(
                "the array for carried logits does not fit",
                facts={"expected": f"{self._shape} float32", "found": f"{out.shape} {out.dtype}"},
            )
        ways = [self._way(key, self._planes_of(index, key)) for index, key in enumerate(keys)]
        self._make_places(max(key.field.blocks.width for key in keys))
        self._arguments = (
            self._ticket, self._rows, self._columns, self._output.channels,
            ways[0], ways[-1], len(ways) == KEYS, LEAST_RESIDUAL,
            out.reshape(-1), self._carried.strides,
        )  # fmt: skip
        self._ticket[0] = 0
        self._workers.run(self._carry)
        self._arguments = ()

    def _carry(self, participant: int) -> None:
        scratch = self._places[participant]
        motion.carry_rows(*self._arguments, *scratch, self._tiles[participant])

    def _planes_of(self, index: int, key: Key) -> NDArray[np.float32]:
        """Scratch for a key's field, kept: 150 kB come and go with page faults."""
        shape = (3, *key.field.residual.shape)
        if self._fields[index].shape != shape:
            self._fields[index] = np.empty(shape, np.float32)
        return self._fields[index]

    def _way(self, key: Key, planes: NDArray[np.float32]) -> Way:
        field = key.field
        if field.frame != self._frame or key.logits.shape != self._kept:
            raise UsageError(
                "a key's field or logits are of another size",
                facts={
                    "expected": f"frame {self._frame}, logits {self._kept}",
                    "found": f"frame {field.frame}, logits {key.logits.shape}",
                },
            )
        rows, columns = self._blocks_of(field.blocks)
        planes[:2], planes[2] = field.displacement.transpose(2, 0, 1), field.residual
        return Way(key.logits, planes, rows, columns, 1.0 / key.frames)

    def _blocks_of(self, blocks: Size) -> tuple[Blocks, Blocks]:
        """Tables for fields of so many blocks; made once."""
        found = self._blocks.get(blocks)
        if found is None:
            found = (
                _blocks(self._pixels[0], self._frame.height, blocks.height),
                _blocks(self._pixels[1], self._frame.width, blocks.width),
            )
            self._blocks = {blocks: found}
        return found

    def _make_places(self, block_columns: int) -> None:
        """Scratch for fields of so many columns; made once."""
        if self._places and self._places[0][0].line.shape[1] >= block_columns:
            return
        width = max(TILE, self._grid.width)
        self._places = [
            (_new_places(width, block_columns), _new_places(width, block_columns))
            for _ in range(self._workers.count)
        ]


def _new_places(width: int, block_columns: int) -> Places:
    rows = np.zeros((6, width), np.uint32)
    line, moves = np.zeros((3, block_columns)), np.zeros((3, width))
    return Places(line, moves, *rows[:3], *rows[3:].view(np.float32))


def _shape(grid: Size, channels: int, is_nhwc: bool) -> tuple[int, ...]:
    plane = (grid.height, grid.width)
    return (1, *plane, channels) if is_nhwc else (1, channels, *plane)


def _pixels(axis: AxisMap, grid: int, finer: int) -> NDArray[np.float64]:
    """The pixel of the frame at each carried point."""
    position = np.arange(finer * (grid - 1) + 1) / finer
    if axis.scale == 0.0:  # corners of a single pixel: every pixel reads the one grid point
        return np.zeros_like(position)
    return (position - axis.offset) / axis.scale


def _points(axis: AxisMap, grid: int, finer: int, pixels: int) -> Points:
    pixel = _pixels(axis, grid, finer)
    position = np.arange(pixel.size) / finer
    least = np.minimum(pixel, 0.0) - pixel
    most = np.maximum(pixel, pixels - 1.0) - pixel
    return Points(position, least, most, axis.scale, grid - 1.0)


def _blocks(pixel: NDArray[np.float64], pixels: int, blocks: int) -> Blocks:
    position = np.clip((pixel + 0.5) * blocks / pixels - 0.5, 0.0, blocks - 1.0)
    low = np.floor(position).astype(np.int32)
    high = np.minimum(low + 1, blocks - 1).astype(np.int32)
    return Blocks(low, high, position - low)
