"""Blend: how each class tints the frame, prepared for the kernels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb
from segedge.cpu.kernels.tables import BLOCK
from segedge.reference.look import Tints, masked


@dataclass(frozen=True)
class Blend:
    """The integer blending of `segedge.reference.look.Tints`, a block of pixels at a time."""

    colors: NDArray[np.uint16]
    """(classes + 1) x 48: the premultiplied BGR colour, repeated over a block of 16 pixels."""
    weights: NDArray[np.uint16]
    """Those of `Tints`."""

    @classmethod
    def of(
        cls,
        palette_rgb: Sequence[Rgb],
        opacity: float | Sequence[float] = 0.5,
        *,
        classes: Collection[int] | None = None,
    ) -> Blend:
        """Prepare a palette; ``classes`` are the labels to paint, None paints all.

        Raises:
            UsageError: An opacity outside 0..1, a wrong number of them, or an unknown label.
        """
        return cls.from_tints(Tints.of(_bgr(palette_rgb), opacity, classes))

    @classmethod
    def mask(cls, palette_rgb: Sequence[Rgb], *, classes: Collection[int] | None = None) -> Blend:
        """Prepare a picture of the palette alone; what is not asked for is black.

        Raises:
            UsageError: An unknown label.
        """
        return cls.from_tints(Tints.solid(_bgr(masked(palette_rgb, classes))))

    @classmethod
    def from_tints(cls, tints: Tints) -> Blend:
        """Repeat each colour over a block."""
        return cls(np.ascontiguousarray(np.tile(tints.colors, BLOCK)), tints.weights)


def _bgr(palette_rgb: Sequence[Rgb]) -> NDArray[np.uint16]:
    return np.asarray(palette_rgb, np.uint16).reshape(len(palette_rgb), 3)[:, ::-1]
