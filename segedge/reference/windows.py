"""The slow truth about sliding windows: the mean of every window's logits at every pixel.

Each window's logits are interpolated to the window's own pixels, clamped at its own border, and
summed into the frame; the sum is divided by the number of windows that see the pixel. That is
``slide_inference`` of mmsegmentation (``mmseg/models/segmentors/encoder_decoder.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.options.sliding import Slide, starts
from segedge.reference import frame as reference

Corner = tuple[int, int]
"""First row and column of a window."""


def corners(frame: Size, window: Size, slide: Slide) -> list[Corner]:
    """Where the windows of a frame lie, row by row."""
    step = slide.steps(window)
    return [
        (top, left)
        for top in starts(frame.height, window.height, step.height)
        for left in starts(frame.width, window.width, step.width)
    ]


def window_geometry(frame: Size, window: Size) -> Geometry:
    """How the part of the frame under a window lies in the network's input: unscaled, padded."""
    part = Size(min(frame.height, window.height), min(frame.width, window.width))
    return Geometry(part, window, 0, 0, part)


def preprocess(
    image_hwc: NDArray[np.uint8], card: ModelCard, window: Size, corner: Corner
) -> NDArray[np.float32]:
    """The network's input for the window at a corner."""
    geometry = window_geometry(Size(*image_hwc.shape[:2]), window)
    (top, left), part = corner, geometry.frame
    seen = image_hwc[top : top + part.height, left : left + part.width]
    return reference.preprocess(seen, card, geometry)


def interpolate(
    outputs: Mapping[Corner, NDArray[Any]], card: ModelCard, frame: Size, window: Size
) -> NDArray[np.float64]:
    """Mean logits of every class at every frame pixel, C x H x W.

    ``outputs`` are the network's (a batch of one) for each window, by its corner.
    """
    geometry = window_geometry(frame, window)
    part = geometry.frame
    total = np.zeros((len(card.classes), frame.height, frame.width))
    seen = np.zeros((frame.height, frame.width))
    for (top, left), output in outputs.items():
        under = slice(top, top + part.height), slice(left, left + part.width)
        total[:, under[0], under[1]] += reference.interpolate(output, card, geometry)
        seen[under] += 1
    return np.asarray(total / seen)
