"""How good a network's answers look, without labels.

What is told is the information that an answer holds on the class of a place, in nats:

    I = H(mean p) - mean H(p)

p are the probabilities of the classes at a point of the logit grid, H is the entropy, the means are
over points and frames. It is large where the network is sure of each place *and* the classes
differ from place to place. Its second term alone, or the mean top probability, praises a network
that calls everything road (Bridle, Heading and MacKay 1991, "Unsupervised classifiers, mutual
information and phantom targets").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.machine.onnx_session import Session
from segedge.reference import frame as reference

_LEAST = 1e-12


@dataclass(frozen=True)
class Look:
    """How a network's answers look on some frames."""

    information: float
    """In nats; 0 where every place has the same answer."""
    confidence: float
    """Mean probability of the label, 0..1."""
    class_shares: tuple[float, ...]
    """Share of the grid's points with each label."""


def look_at(session: Session, card: ModelCard, tensors: Iterable[NDArray[np.float32]]) -> Look:
    """How a network's answers look on its inputs."""
    output = card.output or None
    tally = Tally(len(card.classes))
    for tensor in tensors:
        tally.add(probabilities(session(tensor, output), card))
    return tally.look()


class Tally:
    """Sums over the points of many frames."""

    def __init__(self, classes: int) -> None:
        self._mean = np.zeros(classes)
        self._labels = np.zeros(classes)
        self._entropy = self._top = 0.0
        self._points = 0

    def add(self, planes: NDArray[np.float64]) -> None:
        """The probabilities of one frame, C x H x W."""
        flat = planes.reshape(len(planes), -1)
        self._points += flat.shape[1]
        self._mean += flat.sum(axis=1)
        self._top += float(flat.max(axis=0).sum())
        self._entropy += _entropy(flat)
        self._labels += np.bincount(flat.argmax(axis=0), minlength=len(flat))

    def look(self) -> Look:
        """What they amount to."""
        points = max(self._points, 1)
        spread = _entropy((self._mean / points)[:, None])
        return Look(
            information=max(spread - self._entropy / points, 0.0),
            confidence=self._top / points,
            class_shares=tuple((self._labels / points).tolist()),
        )


def _entropy(columns: NDArray[np.float64]) -> float:
    """Sum of the entropies of the columns, in nats."""
    return float(-(columns * np.log(np.maximum(columns, _LEAST))).sum())


def probabilities(logits: NDArray[Any], card: ModelCard) -> NDArray[np.float64]:
    """Of the classes at the points of the logit grid, C x Gh x Gw."""
    planes = reference.class_logits(logits, card)
    if card.probabilities:
        return planes if card.channels > 1 else np.stack([0.5 - planes[1], 0.5 + planes[1]])
    exponents = np.exp(planes - planes.max(axis=0))
    return np.asarray(exponents / exponents.sum(axis=0))
