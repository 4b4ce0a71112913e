"""Blend: how each class tints the frame, as the table that the kernels read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb, class_opacities

Matrix = Literal["bt601", "bt709"]

LUMA_OF_RGB: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
}
"""Shares of red and blue in luma; ITU-R BT.601-7 and BT.709-6, section 3."""


@dataclass(frozen=True)
class Blend:
    """Integer blending ``(frame * weight + colour) >> 8``, the same as `segedge.cpu.overlay`.

    With opacity q = round(256 * opacity): weight = 256 - q, colour = q * colour + 128.
    """

    table: NDArray[np.uint32]
    """(classes + 1) x 2, to be copied to the device: first channel | third << 16, then second
    channel | weight << 16. The last row leaves the frame as it is."""

    @classmethod
    def of(
        cls,
        palette_rgb: Sequence[Rgb],
        opacity: float | Sequence[float] = 0.5,
        *,
        classes: Collection[int] | None = None,
    ) -> Blend:
        """Prepare a palette for BGR overlays.

        Args:
            palette_rgb: One RGB colour a class, 0..255.
            opacity: Share of the colour, 0..1; one number for all or one a class.
            classes: Labels to paint; the others leave the frame as it is. None paints all.

        Raises:
            UsageError: An opacity outside 0..1, a wrong number of them, or an unknown label.
        """
        bgr = np.asarray(palette_rgb, np.uint32).reshape(len(palette_rgb), 3)[:, ::-1]
        return cls(_table(bgr, class_opacities(len(palette_rgb), opacity, classes)))

    @classmethod
    def nv12(
        cls,
        palette_rgb: Sequence[Rgb],
        opacity: float | Sequence[float] = 0.5,
        *,
        classes: Collection[int] | None = None,
        matrix: Matrix = "bt709",
        full_range: bool = False,
    ) -> Blend:
        """Prepare a palette for NV12 overlays; arguments as in `of`.

        Args:
            palette_rgb: One RGB colour a class, 0..255.
            opacity: Share of the colour, 0..1; one number for all or one a class.
            classes: Labels to paint; None paints all.
            matrix: Of the frames.
            full_range: Whether their luma fills 0..255, not 16..235.

        Raises:
            UsageError: An opacity outside 0..1, a wrong number of them, or an unknown label.
        """
        yuv = yuv_of_rgb(palette_rgb, matrix=matrix, full_range=full_range)
        return cls(_table(yuv[:, [1, 0, 2]], class_opacities(len(palette_rgb), opacity, classes)))


def yuv_of_rgb(
    palette_rgb: Sequence[Rgb], *, matrix: Matrix, full_range: bool
) -> NDArray[np.uint32]:
    """Colours as 8-bit Y, U, V (BT.601-7 section 2.5, BT.709-6 section 4), rounded."""
    red_share, blue_share = LUMA_OF_RGB[matrix]
    red, green, blue = np.asarray(palette_rgb, np.float64).reshape(-1, 3).T / 255.0
    luma = red_share * red + (1.0 - red_share - blue_share) * green + blue_share * blue
    u = (blue - luma) / (2.0 * (1.0 - blue_share))
    v = (red - luma) / (2.0 * (1.0 - red_share))
    gain, offset, chroma_gain = (255.0, 0.0, 255.0) if full_range else (219.0, 16.0, 224.0)
    yuv = np.stack([gain * luma + offset, chroma_gain * u + 128.0, chroma_gain * v + 128.0], 1)
    return np.asarray(np.clip(np.rint(yuv), 0, 255), np.uint32)


def _table(channels: NDArray[np.uint32], shares: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Pack three channels a class, in the frame's order, with their weights."""
    quantised = np.append(np.rint(shares * 256.0), 0).astype(np.uint32)
    colors = np.zeros((quantised.size, 3), np.uint32)
    colors[:-1] = channels
    tints = quantised[:, None] * colors + np.uint32(128)
    table: NDArray[np.uint32] = np.empty((quantised.size, 2), np.uint32)
    table[:, 0] = tints[:, 0] | (tints[:, 2] << np.uint32(16))
    table[:, 1] = tints[:, 1] | ((np.uint32(256) - quantised) << np.uint32(16))
    return table
