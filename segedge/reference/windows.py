"""The slow truth about sliding windows: the mean of every window's logits at every pixel.

Windows lie on the frame as it is; where a card says what size frames are resized to (`Scaling`), on
the resized frame, from whose pixels the mean is interpolated.

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
from segedge.reference.resize import axis_matrix

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


def seen_size(frame: Size, card: ModelCard) -> Size:
    """Size of the frame on which windows lie."""
    return frame if card.scaling is None else card.scaling.resized(frame)


def window_geometry(frame: Size, card: ModelCard, window: Size, corner: Corner) -> Geometry:
    """How a frame lies in the network's input for the window at a corner: cut, or padded."""
    return Geometry(frame, window, -corner[0], -corner[1], seen_size(frame, card))


def preprocess(
    image_hwc: NDArray[np.uint8], card: ModelCard, window: Size, corner: Corner
) -> NDArray[np.float32]:
    """The network's input for the window at a corner."""
    geometry = window_geometry(Size(*image_hwc.shape[:2]), card, window, corner)
    return reference.preprocess(image_hwc, card, geometry)


def interpolate(
    outputs: Mapping[Corner, NDArray[Any]], card: ModelCard, frame: Size, window: Size
) -> NDArray[np.float64]:
    """Mean logits of every class at every frame pixel, C x H x W.

    ``outputs`` are the network's (a batch of one) for each window, by its corner.
    """
    whole = seen_size(frame, card)
    part = Size(min(whole.height, window.height), min(whole.width, window.width))
    geometry = Geometry(part, window, 0, 0, part)
    # Sums of masks are averaged, as their networks' own post-processing does, not their logarithms.
    given, back = (np.exp, np.log) if card.mask_scale is not None else (np.asarray, np.asarray)
    total = np.zeros((len(card.classes), whole.height, whole.width))
    seen = np.zeros((whole.height, whole.width))
    for (top, left), output in outputs.items():
        under = slice(top, top + part.height), slice(left, left + part.width)
        total[:, under[0], under[1]] += given(reference.interpolate(output, card, geometry))
        seen[under] += 1
    mean = np.asarray(back(total / seen))
    if whole == frame:
        return mean
    maps = Geometry.fit(frame, whole, "stretch").network_from_frame()
    rows = axis_matrix("bilinear", maps.y, range(frame.height), whole.height)
    columns = axis_matrix("bilinear", maps.x, range(frame.width), whole.width)
    return np.asarray(np.matmul(rows, mean) @ columns.T)
