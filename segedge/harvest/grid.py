"""What the low-resolution logits of a frame say: labels, margins and class shares of a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.drift.glance import class_scores, content
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView

_ROWS_READ = 4
"""Rows of a frame that each row of a reduced picture is made of, at least."""


class LogitsView(ResultView, Protocol):
    """A result with the network's output, as `segedge.segment.result.Result` is."""

    @property
    def card(self) -> ModelCard:
        """What the network wants and gives."""

    @property
    def logits(self) -> NDArray[Any]:
        """The network's raw output."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A frame at the size of the logits, or less."""

    labels: NDArray[np.intp]
    """h x w: the winning class."""
    doubt: NDArray[np.float32] | None
    """h x w: 1 less the margin between the two best probabilities, 0 (sure) to 1 (a tie); None
    where the network gives labels only."""
    luma: NDArray[np.uint8]
    """h x w: the frame's brightness there."""
    shares: NDArray[np.float64]
    """Share of the grid a class."""


def grid_of(frame: Frame, result: LogitsView) -> Grid:
    """Reduce a frame and its logits to a small grid; borders of a letterbox are left out."""
    card, output, size = result.card, result.logits, Size(*frame.size)
    if card.head == "labels":
        rows, columns = content(size, card, card.grid_size(output.shape))
        labels = np.asarray(output).reshape(output.shape[-2:])[rows, columns].astype(np.intp)
        doubt = None
    else:
        labels, doubt = _best_two(class_scores(size, output, card), card)
    counts = np.bincount(labels.reshape(-1), minlength=len(card.classes))[: len(card.classes)]
    return Grid(labels, doubt, luma_of(frame, labels.shape), counts / labels.size)


def luma_of(frame: Frame, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The frame's brightness, reduced by area to (rows, columns).

    Of large frames every so many rows are read, at least four for one of the result: a tenth of
    the time, and noise is averaged away as well.
    """
    every = max(1, frame.size[0] // (_ROWS_READ * shape[0]))
    rows = frame.image_hwc[::every]
    small = cv2.resize(rows, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    luma: NDArray[np.uint8] = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))
    return luma


def _best_two(
    scores: NDArray[np.float32], card: ModelCard
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The winner and 1 less its lead in probability, of C x h x w logits or probabilities."""
    best = scores[0].copy()
    second = np.full_like(best, -np.inf)
    labels = np.zeros(best.shape, np.intp)
    for label in range(1, scores.shape[0]):
        plane = scores[label]
        np.maximum(second, np.minimum(best, plane), out=second)
        np.copyto(labels, label, where=plane > best)
        np.maximum(best, plane, out=best)
    if card.probabilities:
        return labels, 1.0 - (best - second)
    lead = 1.0 - np.exp(second - best)
    doubt: NDArray[np.float32] = 1.0 - lead / np.exp(scores - best).sum(axis=0)
    return labels, doubt
