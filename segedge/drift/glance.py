"""One frame at a glance: how sure the network is, of what, and how bright the frame is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.familiar import BINS, Familiar, Triple
from segedge.card.geometry import Size

MOST_ROWS, MOST_COLUMNS = 64, 128
"""Larger grids are thinned out to this: the figures are means over the frame."""
_EVERY = 16
"""Rows and columns of a frame that its brightness is taken from."""


@dataclass(frozen=True, eq=False)
class Glance:
    """Figures of one frame."""

    confidence: float
    """Mean probability of the label, 0..1."""
    top: NDArray[np.float64]
    """Share of the points in each tenth of it."""
    class_shares: NDArray[np.float64]
    """Share of the points with each label."""
    mean_bgr: NDArray[np.float64]
    contrast_bgr: NDArray[np.float64]


def thinned(image_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels of a BGR frame that its brightness is taken from, an array of its own."""
    thin: NDArray[np.uint8] = image_hwc[::_EVERY, ::_EVERY].copy()
    return thin


def glance(frame: Size, thin: NDArray[np.uint8], logits: NDArray[Any], card: ModelCard) -> Glance:
    """Figures of a frame of this size by its `thinned` pixels and the network's logits."""
    labels, top = _best(class_scores(frame, logits, card), card)
    points = labels.size
    levels = np.bincount((top * BINS).astype(np.int64).ravel(), minlength=BINS + 1)
    levels[BINS - 1] += levels[BINS]
    pixels = thin.reshape(-1, 3).astype(np.float64)
    return Glance(
        confidence=float(top.mean(dtype=np.float64)),
        top=levels[:BINS] / points,
        class_shares=np.bincount(labels.ravel(), minlength=len(card.classes)) / points,
        mean_bgr=pixels.mean(axis=0),
        contrast_bgr=pixels.std(axis=0),
    )


def familiar_of(glances: Sequence[Glance], when: Literal["exported", "adapted"]) -> Familiar:
    """What a network's answers look like on these images."""
    confidences = np.array([one.confidence for one in glances])
    return Familiar(
        when=when,
        images=len(glances),
        confidence=_share(confidences.mean()),
        spread=_share(confidences.std()),
        top=_shares(mean_of(glances, "top")),
        class_shares=_shares(mean_of(glances, "class_shares")),
        mean_bgr=_triple(mean_of(glances, "mean_bgr")),
        contrast_bgr=_triple(mean_of(glances, "contrast_bgr")),
    )


def mean_of(glances: Sequence[Glance], name: str) -> NDArray[np.float64]:
    """Mean over frames of one of their figures."""
    return np.asarray(np.mean([getattr(one, name) for one in glances], axis=0))


def _share(value: float) -> float:
    return round(min(max(float(value), 0.0), 1.0), 5)


def _shares(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(_share(value) for value in values)


def _triple(values: NDArray[np.float64]) -> Triple:
    blue, green, red = (round(float(value), 2) for value in values)
    return blue, green, red


def class_scores(frame: Size, logits: NDArray[Any], card: ModelCard) -> NDArray[np.float32]:
    """One finite plane a class, C x h x w logits or probabilities, where `content` is."""
    planes = np.asarray(logits)[0]
    if card.logits_layout == "nhwc":
        planes = np.moveaxis(planes, -1, 0)
    rows, columns = content(frame, card, card.grid_size(logits.shape))
    scores: NDArray[np.float32] = planes[:, rows, columns].astype(np.float32)
    scores = np.nan_to_num(scores, nan=-1e30, posinf=1e30, neginf=-1e30)
    if card.activation != "sigmoid":
        return scores
    if card.probabilities:  # less a half
        return np.concatenate([0.5 - scores, 0.5 + scores])
    return np.concatenate([np.zeros_like(scores), scores])  # the background is a class of logit 0


def _best(
    scores: NDArray[np.float32], card: ModelCard
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The label and its probability at each point."""
    labels, best = scores.argmax(axis=0), scores.max(axis=0)
    if card.probabilities:
        return labels, np.clip(best, 0.0, 1.0)
    top: NDArray[np.float32] = 1.0 / np.exp(scores - best).sum(axis=0)
    return labels, top


def content(frame: Size, card: ModelCard, grid: Size) -> tuple[slice, slice]:
    """Rows and columns of the grid that show the frame, thinned out."""
    network = card.input_size
    if "size" in card.dynamic:
        network = Size(grid.height * card.stride, grid.width * card.stride)
    top, left, bottom, right = card.place(frame, network).content()
    rows = _span(top, bottom, network.height, grid.height, MOST_ROWS)
    return rows, _span(left, right, network.width, grid.width, MOST_COLUMNS)


def _span(first: int, last: int, network: int, grid: int, most: int) -> slice:
    begin = min(grid - 1, round(first * grid / network))
    end = max(begin + 1, round(last * grid / network))
    step = -(-(end - begin) // most)
    return slice(begin + (step - 1) // 2, end, step)
