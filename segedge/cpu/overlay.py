"""Blend: how each class tints the frame, prepared for the kernels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb, class_opacities
from segedge.cpu.kernels.simd import BLOCK


@dataclass(frozen=True)
class Blend:
    """Integer blending ``(frame * weight + colour) >> 8``, one weight and colour a class.

    With opacity q = round(256 * opacity): weight = 256 - q, colour = q * colour + 128, so the sum
    is rounded to nearest and at most 255 * 256 + 128, which fits 16 bits.
    """

    colors: NDArray[np.uint16]
    """(classes + 1) x 48: the premultiplied BGR colour, repeated over a block of 16 pixels."""
    weights: NDArray[np.uint16]
    """(classes + 1): share of the frame, 0..256. The last entry leaves the frame as it is; labels
    that name no class use it."""

    @classmethod
    def of(
        cls,
        palette_rgb: Sequence[Rgb],
        opacity: float | Sequence[float] = 0.5,
        *,
        classes: Collection[int] | None = None,
        width: int | None = None,
    ) -> Blend:
        """Prepare a palette.

        Args:
            palette_rgb: One RGB colour a class, 0..255.
            opacity: Share of the colour, 0..1; one number for all or one a class.
            classes: Labels to paint; the others leave the frame as it is. None paints all.
            width: Ignored: the tables repeat over a block of pixels and serve any width.

        Raises:
            UsageError: An opacity outside 0..1, a wrong number of them, or an unknown label.
        """
        count = len(palette_rgb)
        shares = class_opacities(count, opacity, classes)
        quantised = np.append(np.rint(shares * 256.0), 0).astype(np.uint16)
        bgr = np.zeros((count + 1, 3), np.uint16)
        bgr[:count] = np.asarray(palette_rgb, np.uint16).reshape(count, 3)[:, ::-1]
        colors = np.tile(quantised[:, None] * bgr + np.uint16(128), BLOCK)
        return cls(np.ascontiguousarray(colors), 256 - quantised)

    @classmethod
    def mask(cls, palette_rgb: Sequence[Rgb], *, classes: Collection[int] | None = None) -> Blend:
        """Prepare a picture of the palette alone; what is not asked for is black.

        Args:
            palette_rgb: One RGB colour a class, 0..255.
            classes: Labels in their colour; None: all.

        Raises:
            UsageError: An unknown label.
        """
        shown = class_opacities(len(palette_rgb), 1.0, classes) > 0.0
        palette = [c if s else (0, 0, 0) for c, s in zip(palette_rgb, shown, strict=True)]
        solid = cls.of([*palette, (0, 0, 0)], 1.0)
        return cls(solid.colors[:-1], solid.weights[:-1])
