"""Blend: how each class tints the frame, as the table that the kernels read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb
from segedge.reference.look import Tints

Matrix = Literal["bt601", "bt709"]

LUMA_OF_RGB: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
}
"""Shares of red and blue in luma; ITU-R BT.601-7 and BT.709-6, section 3."""


@dataclass(frozen=True)
class Blend:
    """The integer blending of `segedge.reference.look.Tints`, packed for the kernels."""

    table: NDArray[np.uint32]
    """(classes + 1) x 2, to be copied to the device: first channel | third << 16, then second
    channel | weight << 16. The last row leaves the frame as it is."""

    @classmethod
    def from_tints(cls, tints: Tints) -> Blend:
        """Pack three channels a class, in the frame's order, with their weights."""
        first, second, third = tints.colors.T.astype(np.uint32)
        upper = np.uint32(16)
        words = [first | (third << upper), second | (tints.weights.astype(np.uint32) << upper)]
        return cls(np.stack(words, 1))


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


def planes_of_rgb(
    palette_rgb: Sequence[Rgb], *, matrix: Matrix = "bt709", full_range: bool = False
) -> NDArray[np.uint32]:
    """Colours in the order in which NV12 overlays are painted: U, Y, V."""
    return yuv_of_rgb(palette_rgb, matrix=matrix, full_range=full_range)[:, [1, 0, 2]]
