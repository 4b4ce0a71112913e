"""The slow truth of the effects, in plain NumPy and float64; see `segedge.reference.frame`.

Pictures are exact in their opacity and colour rules; fast paths may differ by one level where they
round once more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry
from segedge.options.effect import blur_steps, heat_table_rgb
from segedge.reference import frame as reference

_NOTHING = -1e30
"""Logit of a set without classes."""


def foreground_margin(
    logits: NDArray[Any], card: ModelCard, geometry: Geometry, foreground: Collection[int]
) -> NDArray[np.float64]:
    """Best logit of the foreground's classes minus the best of all others, at every frame pixel.

    Both are taken after interpolation, so that the margin is zero exactly where labels change
    from foreground to background.
    """
    values = reference.interpolate(logits, card, geometry)
    inside = np.isin(np.arange(values.shape[0]), list(foreground))
    best = [
        values[chosen].max(axis=0) if chosen.any() else np.full(values.shape[1:], _NOTHING)
        for chosen in (inside, ~inside)
    ]
    return np.asarray(best[0] - best[1])


def matte(
    logits: NDArray[Any],
    card: ModelCard,
    geometry: Geometry,
    foreground: Collection[int],
    edge_logits: float,
) -> NDArray[np.uint8]:
    """Opacity of the foreground, 0..255.

    The smoothstep t * t * (3 - 2 t) of the margin from ``-edge_logits`` to ``edge_logits``. A
    network that gives labels has hard edges.
    """
    if card.head == "labels":
        found = reference.labels(logits, card, geometry)
        return np.where(np.isin(found, list(foreground)), 255, 0).astype(np.uint8)
    margin = foreground_margin(logits, card, geometry, foreground)
    t = np.clip((margin / edge_logits + 1.0) / 2.0, 0.0, 1.0)
    return np.asarray(np.floor(255.0 * t * t * (3.0 - 2.0 * t) + 0.5), np.uint8)


def compose(
    image_hwc: NDArray[np.uint8], alpha: NDArray[np.uint8], background: NDArray[Any]
) -> NDArray[np.uint8]:
    """The image over a background (or one row of it), rounded to nearest."""
    share = alpha.astype(np.int64)[..., None]
    mixed = image_hwc.astype(np.int64) * share + background.astype(np.int64) * (255 - share)
    return np.asarray((mixed + 127) // 255, np.uint8)


def cutout(image_hwc: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H x W x 4: the image with its opacity, black where nothing of it is seen."""
    seen = np.where(alpha[..., None] > 0, image_hwc, 0)
    return np.asarray(np.concatenate([seen, alpha[..., None]], axis=2), np.uint8)


def blurred_background(
    image_hwc: NDArray[np.uint8], alpha: NDArray[np.uint8], sigma_pixels: float
) -> NDArray[np.float64]:
    """The background, blurred as if the foreground were not there.

    A pixel weighs 256 - alpha, so that no foreground glows into its surroundings. Weighted sums
    over blocks of `blur_steps` pixels are blurred by a Gaussian (cut at 3 standard deviations, the
    border repeated), divided by the blurred weights, rounded, and interpolated between the blocks'
    centres: H x W x 3, not rounded.
    """
    step = blur_steps(sigma_pixels)
    height, width = alpha.shape
    weights = 256.0 - alpha
    planes = np.concatenate([image_hwc * weights[..., None], weights[..., None]], axis=2)
    rows, columns = -(-height // step), -(-width // step)
    padded = np.zeros((rows * step, columns * step, 4))
    padded[:height, :width] = planes
    blocks = padded.reshape(rows, step, columns, step, 4).sum(axis=(1, 3))
    for axis in (0, 1):
        blocks = _gaussian(blocks, sigma_pixels / step, axis)
    small = np.floor(blocks[..., :3] / blocks[..., 3:] + 0.5)
    return _enlarged(_enlarged(small, step, height, 0), step, width, 1)


def _gaussian(values: NDArray[np.float64], sigma: float, axis: int) -> NDArray[np.float64]:
    radius = int(np.ceil(3.0 * sigma))
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-(offsets**2) / (2.0 * sigma * sigma))
    index = np.clip(np.arange(values.shape[axis])[:, None] + offsets, 0, values.shape[axis] - 1)
    moved = np.moveaxis(values, axis, 0)
    blurred = np.tensordot(taps / taps.sum(), moved[index], axes=(0, 1))
    return np.moveaxis(blurred, 0, axis)


def _enlarged(
    values: NDArray[np.float64], step: int, length: int, axis: int
) -> NDArray[np.float64]:
    moved = np.moveaxis(values, axis, 0)
    at = np.clip((np.arange(length) + 0.5) / step - 0.5, 0.0, moved.shape[0] - 1.0)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, moved.shape[0] - 1)
    share = (at - low)[:, None, None]
    return np.moveaxis(moved[low] * (1.0 - share) + moved[high] * share, 0, axis)


def mask(
    labels_hw: NDArray[Any],
    palette_bgr: Sequence[tuple[int, int, int]],
    classes: Collection[int] | None = None,
) -> NDArray[np.uint8]:
    """Each class's colour; black for classes that are not asked for and labels that are none."""
    count = len(palette_bgr)
    colors = np.zeros((count + 1, 3), np.uint8)
    for label in range(count) if classes is None else classes:
        colors[label] = palette_bgr[label]
    return np.asarray(colors[np.minimum(labels_hw.astype(np.int64), count)], np.uint8)


def outline(
    image_hwc: NDArray[np.uint8],
    labels_hw: NDArray[Any],
    palette_bgr: Sequence[tuple[int, int, int]],
    radius: int,
    classes: Collection[int] | None = None,
) -> NDArray[np.uint8]:
    """The image; pixels with another label within ``radius`` rows and columns in their colour."""
    height, width = labels_hw.shape
    out: NDArray[np.uint8] = image_hwc.copy()
    chosen = set(range(len(palette_bgr)) if classes is None else classes)
    for y in range(height):
        for x in range(width):
            rows = slice(max(0, y - radius), y + radius + 1)
            window = labels_hw[rows, max(0, x - radius) : x + radius + 1]
            label = int(labels_hw[y, x])
            if label in chosen and np.any(window != label):
                out[y, x] = palette_bgr[label]
    return out


def entropy(logits: NDArray[Any], card: ModelCard, geometry: Geometry) -> NDArray[np.float32]:
    """Entropy of the softmax of the interpolated logits, over that of equal classes, 0..1.

    The logits are those of `segedge.reference.frame.sure_logits`.
    """
    values = reference.interpolate_sure(logits, card, geometry)
    count = values.shape[0]
    if count == 1:
        return np.zeros(values.shape[1:], np.float32)
    below = values - values.max(axis=0)
    total = np.exp(below).sum(axis=0)
    mean = (np.exp(below) * np.maximum(below, -1e3)).sum(axis=0) / total
    return np.asarray((np.log(total) - mean) / np.log(count), np.float32)


def heat(image_hwc: NDArray[np.uint8], doubt: NDArray[Any], alpha: float) -> NDArray[np.uint8]:
    """The image with the colour of each pixel's doubt (0..1) at opacity ``alpha``."""
    index = np.floor(255.0 * np.clip(doubt, 0.0, 1.0) + 0.5).astype(int)
    colors = heat_table_rgb()[index][..., ::-1]
    return np.asarray(np.floor(image_hwc * (1.0 - alpha) + colors * alpha + 0.5), np.uint8)
