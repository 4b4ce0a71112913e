"""A picture of where two models differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segedge.evaluate.agreement import Answering, difference

_OTHER_BGR = (255, 0, 255)
_AMBIGUOUS_BGR = (0, 255, 255)
_BORDER = 4


def difference_picture(
    first: Answering, second: Answering, image: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Both label maps in their colours, and the image with what differs.

    Returns:
        Three panels beside each other, H x (3 W + 2 borders) x 3 uint8 BGR: the first, the second,
        and the darkened image with other labels in magenta and ties of the first in yellow.
    """
    one, two = first(image), second(image)
    states = difference(one, two, first.card)
    dark = np.repeat((image.mean(axis=2, keepdims=True) * 0.5).astype(np.uint8), 3, axis=2)
    dark[states == 1] = _OTHER_BGR
    dark[states == 2] = _AMBIGUOUS_BGR
    palette = np.array(first.card.palette_rgb, np.uint8)[:, ::-1]
    panels = [palette[np.minimum(a.labels, len(palette) - 1)] for a in (one, two)]
    gap = np.full((image.shape[0], _BORDER, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, dark], axis=1)
