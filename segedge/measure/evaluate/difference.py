"""A picture of where two models differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb
from segedge.measure.evaluate.agreement import Pair

_OTHER_BGR = (255, 0, 255)
_AMBIGUOUS_BGR = (0, 255, 255)
_BORDER = 4


def draw_pair(pair: Pair, palette_rgb: Sequence[Rgb]) -> NDArray[np.uint8]:
    """What two models say of an image, side by side: H x (3 W + 2 borders) x 3 uint8 BGR.

    The first, the second, and the darkened image with other labels in magenta and ties of the first
    in yellow.
    """
    image = pair.image
    dark = np.repeat((image.mean(axis=2, keepdims=True) * 0.5).astype(np.uint8), 3, axis=2)
    dark[pair.states == 1] = _OTHER_BGR
    dark[pair.states == 2] = _AMBIGUOUS_BGR
    palette = np.array(palette_rgb, np.uint8)[:, ::-1]
    answers = pair.first, pair.second
    panels = [palette[np.minimum(a.labels, len(palette) - 1)] for a in answers]
    gap = np.full((image.shape[0], _BORDER, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, dark], axis=1)
