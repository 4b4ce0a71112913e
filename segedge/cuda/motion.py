"""Carrying logits on the GPU; see `segedge.reference.motion` and ``kernels/motion.cu``.

Which keys a frame has differs from frame to frame, so the kernel is launched plainly, as that of
smoothing is: between the upload and the graph that starts with the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, PlaneMap, Size
from segedge.cuda.arguments import blocks_of, logit_defines, size_of
from segedge.cuda.runtime.program import Argument, Kernel, Launcher
from segedge.errors import UsageError
from segedge.motion.carry import FINER, LEAST_RESIDUAL, finer_grid, finer_map

_BLOCK = (32, 8)
KEYS = 2
"""At most: one on either side."""


@dataclass(frozen=True)
class Key:
    """A key frame, as another frame sees it; device addresses."""

    logits: int
    """The network's, of the dtype and layout that `Carrier` was made for."""
    displacement: int
    """Bh x Bw x 2 float32 of its `MotionField`."""
    residual: int
    """Bh x Bw float32."""
    blocks: Size
    """Rows and columns of the field."""
    frames: float
    """How far apart both are, in frames, above 0."""


class Carrier:
    """Reads the logits of keys at where a frame's pixels were; holds no memory of the GPU."""

    def __init__(
        self,
        card: ModelCard,
        geometry: Geometry,
        grid: Size,
        *,
        finer: int = FINER,
        dtype: DTypeLike = "float32",
    ) -> None:
        """Prepare for keys with a grid of logits of a dtype.

        Raises:
            UsageError: The network gives labels, or other types than float32 and float16.
        """
        if card.head == "labels" or np.dtype(dtype) not in (np.float32, np.float16):
            raise UsageError(
                "a network that gives labels cannot be carried along by motion",
                facts={"needed": "logits, float32 or float16", "found": str(np.dtype(dtype))},
                fix="export it again without its argmax, or run it on every frame",
            )
        self._frame, self._grid = geometry.frame, grid
        self._plane = geometry.grid_from_frame(grid, align_corners=card.align_corners)
        self._finer = finer
        self.grid = finer_grid(grid, finer)
        """Height and width of the carried logits."""
        planes = (self.grid.height, self.grid.width)
        is_nhwc = card.logits_layout == "nhwc"
        self.shape: tuple[int, ...] = (
            (1, *planes, card.channels) if is_nhwc else (1, card.channels, *planes)
        )
        """Of the carried logits, float32."""
        self._kernel = Kernel.of(
            "carry_logits",
            ("common.cu", "logits.cu", "motion.cu"),
            **logit_defines(card, dtype),
            finer=finer,
            least_residual=LEAST_RESIDUAL,
        )

    @property
    def plane(self) -> PlaneMap:
        """Index map from frame pixels to the carried logits, for a `Tail` that reads them."""
        return finer_map(self._plane, self._finer)

    def run(self, launcher: Launcher, keys: Sequence[Key], out: int) -> None:
        """Carry the logits of one or two keys to a frame, into device memory of `shape`.

        Raises:
            UsageError: No key, or more than two.
        """
        if not 1 <= len(keys) <= KEYS:
            raise UsageError(
                "logits are carried from one key or two", facts={"found": str(len(keys))}
            )
        first, second = keys[0], keys[1] if len(keys) == KEYS else None
        other = second or first
        rows, columns = self._plane.y, self._plane.x
        maps = rows.scale, rows.offset, columns.scale, columns.offset
        launcher(
            self._kernel, blocks_of(self.grid, _BLOCK), _BLOCK,
            [*_arguments(first), *(_arguments(second) if second else (0, 0, 0, np.float32(0.0))),
             *size_of(self._grid), *size_of(self._frame), *size_of(first.blocks),
             *size_of(other.blocks), *map(np.float64, maps), out],
        )  # fmt: skip


def _arguments(key: Key) -> tuple[Argument, ...]:
    return key.logits, key.displacement, key.residual, np.float32(1.0 / key.frames)
