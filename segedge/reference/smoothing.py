"""The slow truth of smoothing over time: what both fast paths must compute, in NumPy and float64.

Each grid point keeps its smoothed logits and the brightness that the image had when they were made,
its *guide*: `FINER` x `FINER` cells. With a new frame, per point:

    guide   means of the network's input in the point's cells, green channel, in grey levels
    change  largest |guide - the past's guide| in the cells of the point and its eight neighbours
    share   kept * max(0, 1 - (change / tolerance)^2) / (1 + lead / margin)
    past    = new + share * (past - new), logits and guide alike

where ``lead`` is by how much the best new logit is above the second best (of a sigmoid head its
distance from zero). So the past goes where the image is another (behind a moving object, and
everywhere where the camera moves past edges), where the network is sure, and after a scene change.
The guide is smoothed with the same share as the logits: it tells what the *past* looked like, and a
slow drift, below the tolerance from frame to frame, is noticed in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.options.smoothing import (
    CUT_SHARE,
    CUT_TOLERANCES,
    FINER,
    MOST_LOGIT,
    STILL_LEVELS,
    TAPS,
    Changes,
    Flicker,
    Smoothing,
    Step,
)


@dataclass(frozen=True)
class Past:
    """What is kept of a stream."""

    planes: NDArray[np.float64]
    """Smoothed logits, channels x Gh x Gw."""
    guide: NDArray[np.float64]
    """FINER * Gh x FINER * Gw grey levels that belong to them; infinite where there is no past."""
    last_guide: NDArray[np.float64]
    """Guide of the last frame alone."""
    before: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Labels of the last two frames by their own logits, the last one first."""
    after: tuple[NDArray[np.int64], NDArray[np.int64]]
    """The same by the smoothed logits."""


def guide(tensor: NDArray[Any], card: ModelCard, grid: Size) -> NDArray[np.float64]:
    """Brightness around each grid point in grey levels, FINER * Gh x FINER * Gw.

    The input is cut into equal cells, `FINER` x `FINER` a grid point, and of each up to
    `TAPS` x `TAPS` evenly spaced values of the green channel are averaged.
    """
    green = tensor[0, 1] if card.input_layout == "nchw" else tensor[0, :, :, 1]
    rows = taps(FINER * grid.height, green.shape[0])
    columns = taps(FINER * grid.width, green.shape[1])
    sampled = green.astype(np.float64)[rows][:, :, columns]  # rows x taps x columns x taps
    return np.asarray(255.0 * (sampled.mean(axis=(1, 3)) * card.std[1] + card.mean[1]))


def taps(points: int, pixels: int) -> NDArray[np.int64]:
    """Pixels of an axis that each cell samples, points x taps."""
    count = taps_a_cell(points, pixels)
    sample = 2 * np.arange(points * count).reshape(points, count) + 1
    return np.asarray(sample * pixels // (2 * points * count), np.int64)


def taps_a_cell(points: int, pixels: int) -> int:
    """Samples of an axis a cell, at most `TAPS`."""
    return min(TAPS, max(1, pixels // points))


def smooth(
    logits: NDArray[Any],
    tensor: NDArray[Any],
    card: ModelCard,
    past: Past | None,
    *,
    smoothing: Smoothing,
    step: Step,
) -> tuple[NDArray[np.float64], Past, Flicker]:
    """Smoothed logits of a frame, what the next frame needs, and what changed in this one.

    Logits (shaped as the card says) and the ``tensor``, the network's input that they are from,
    stay as they are.
    """
    planes = np.asarray(logits[0], np.float64)
    if card.logits_layout == "nhwc":
        planes = planes.transpose(2, 0, 1)
    found = guide(tensor, card, Size(*planes.shape[1:]))
    afresh = past is None or step.afresh
    if past is None or afresh:
        nothing = np.zeros(planes.shape[1:], np.int64)
        past = Past(np.zeros_like(planes), np.full_like(found, np.inf), found,
                    (nothing, nothing), (nothing, nothing))  # fmt: skip
    change = _coarse(np.abs(found - past.guide))
    differs = change > CUT_TOLERANCES * smoothing.tolerance
    is_cut = bool(differs.sum() > CUT_SHARE * differs.size)
    fit = np.asarray((np.abs(planes) <= MOST_LOGIT).all(axis=0))  # NaN is not
    still = np.clip(1.0 - np.square(neighbours_most(change) / smoothing.tolerance), 0.0, None)
    share = step.kept * still / (1.0 + lead(planes, card) / smoothing.margin)
    share = np.where(fit & (not is_cut), share, 0.0)
    fine_share, fine_fit = _fine(share), _fine(fit)
    with np.errstate(invalid="ignore"):  # what is not finite is not used
        mixed = np.where(share > 0.0, planes + share * (past.planes - planes), planes)
        moved = found + fine_share * (past.guide - found)
    mixed_guide = np.where(fine_share > 0.0, moved, found)
    at_rest = neighbours_most(_coarse(np.abs(found - past.last_guide))) < STILL_LEVELS
    follows = not afresh and not is_cut
    before, changes_before = _changes(_labels(planes, card), past.before, at_rest, follows)
    after, changes_after = _changes(_labels(mixed, card), past.after, at_rest, follows)
    counts = Flicker(int(at_rest.sum()) if follows else 0, changes_before, changes_after)
    future = Past(
        np.where(fit, mixed, 0.0), np.where(fine_fit, mixed_guide, np.inf), found, before, after
    )
    if card.logits_layout == "nhwc":
        mixed = mixed.transpose(1, 2, 0)
    return mixed[None], future, counts


def lead(planes: NDArray[np.float64], card: ModelCard) -> NDArray[np.float64]:
    """How far the best class is above the second best; of a single class infinite."""
    if card.activation == "sigmoid":
        return np.asarray(np.abs(planes[0]))
    if planes.shape[0] == 1:
        return np.full(planes.shape[1:], np.inf)
    best = np.sort(planes, axis=0)[-2:]
    with np.errstate(invalid="ignore"):  # such points are left out
        return np.asarray(best[1] - best[0])


def neighbours_most(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest of each point and its eight neighbours."""
    padded = np.pad(values, 1, constant_values=-np.inf)
    height, width = values.shape
    windows = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.asarray(np.max(windows, axis=0))


def _coarse(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest of each grid point's cells."""
    height, width = cells.shape[0] // FINER, cells.shape[1] // FINER
    return np.asarray(cells.reshape(height, FINER, width, FINER).max(axis=(1, 3)))


def _fine(points: NDArray[Any]) -> NDArray[Any]:
    """Each grid point's value in all of its cells."""
    return points.repeat(FINER, axis=0).repeat(FINER, axis=1)


def _changes(
    labels: NDArray[np.int64],
    last: tuple[NDArray[np.int64], NDArray[np.int64]],
    at_rest: NDArray[np.bool_],
    follows: bool,
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Changes]:
    """Labels of the last two frames from here on, and what changed."""
    if not follows:
        return (labels, labels), Changes()
    changed = at_rest & (labels != last[0])
    counts = Changes(int(changed.sum()), int((changed & (labels == last[1])).sum()))
    return (labels, last[0]), counts


def _labels(planes: NDArray[np.float64], card: ModelCard) -> NDArray[np.int64]:
    """Argmax; NaN never wins, the first of equals does."""
    finite = np.where(np.isnan(planes), -np.inf, planes)
    if card.activation == "sigmoid":
        return np.asarray(finite[0] > 0.0, np.int64)
    return np.asarray(np.argmax(finite, axis=0), np.int64)
