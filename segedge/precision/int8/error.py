"""How far a quantized network is from float: its logits and labels on a few images, simulated.

*Simulated*: every Q and DQ node runs on its own and the layers between them in float32, which is
what the arithmetic of int8 with 32-bit sums gives up to float rounding. So a figure does not
depend on the integer kernels of the CPU at hand (without VNNI they saturate 16-bit sums).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.axes import channel_axis
from segedge.card.card import ModelCard
from segedge.graph.kit import Model, session_of
from segedge.machine.onnx_session import Session
from segedge.reference.agreement import LabelCount


@dataclass(frozen=True, order=True)
class QuantizationError:
    """The distance of two networks' answers; sorts by disagreement, then by the logits' error."""

    disagreement: float
    """Share of the logit grid's points with another label, 0..1."""
    logit_error: float
    """Root mean square of the difference, relative to the logits' standard deviation."""

    @property
    def agreement(self) -> float:
        """Share of the points with the same label, 0..1."""
        return 1.0 - self.disagreement


@dataclass(frozen=True)
class Reference:
    """Input tensors, and what the float network answers to each."""

    card: ModelCard
    """Says which output is the head, and what it holds."""
    tensors: tuple[NDArray[np.float32], ...]
    """Network inputs."""
    answers: tuple[NDArray[Any], ...]
    """The head's output for each."""

    @classmethod
    def of(
        cls, model: Model, card: ModelCard, tensors: Iterable[NDArray[np.float32]], count: int
    ) -> Reference:
        """Run the float network on the first ``count`` of the tensors, spread evenly."""
        kept = spread(tensors, count)
        session = session_of(model)
        answers = tuple(_head(session, card, tensor) for tensor in kept)
        return cls(card, tuple(kept), answers)

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.tensors)

    def error(self, model: Model, *, count: int | None = None) -> QuantizationError:
        """How a quantized network compares, simulated, on the first ``count`` images."""
        session = session_of(model, simulate=True)
        total = LabelCount()
        squares = spread = 0.0
        pairs = islice(zip(self.tensors, self.answers, strict=True), count)
        for tensor, expected in pairs:
            found = _head(session, self.card, tensor)
            same = _labels(expected, self.card) == _labels(found, self.card)
            total += LabelCount.of(same)
            if self.card.head == "logits":
                difference = found.astype(np.float64) - expected
                squares += float(np.mean(difference**2))
                spread += float(np.var(expected))
        wrong = (total.pixels - total.equal) / total.pixels
        return QuantizationError(wrong, float(np.sqrt(squares / spread)) if spread else 0)


def spread(tensors: Iterable[NDArray[np.float32]], count: int) -> list[NDArray[np.float32]]:
    """At most ``count`` of the tensors, spread evenly."""
    kept = list(tensors)
    return [kept[i] for i in np.linspace(0, len(kept) - 1, min(count, len(kept))).astype(int)]


def _head(session: Session, card: ModelCard, tensor: NDArray[np.float32]) -> NDArray[Any]:
    return session(tensor, card.output if card.output in session.outputs else None)


def _labels(answer: NDArray[Any], card: ModelCard) -> NDArray[Any]:
    if card.head == "labels":
        return answer
    if card.activation == "sigmoid":
        return np.asarray(answer > 0)
    return np.asarray(answer.argmax(axis=channel_axis(card.logits_layout)))
