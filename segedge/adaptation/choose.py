"""Which share of the way is taken: by labels where there are some, else by what answers tell."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segedge.adaptation.frames import Frames
from segedge.adaptation.judge import look_at
from segedge.adaptation.layers import Layer, find_layers, folded
from segedge.adaptation.measure import measure, with_positions
from segedge.adaptation.moves import Found, move_of
from segedge.adaptation.options import LEAST_GAIN, LEAST_SURER, Trial
from segedge.card.card import ModelCard
from segedge.card.familiar import Familiar
from segedge.card.statistics import Statistics
from segedge.errors import ModelError
from segedge.graph.kit import Model, session_of, to_bytes
from segedge.measure.datasets.datasets import Dataset
from segedge.measure.evaluate.evaluate import evaluate
from segedge.segment.load import load

_LEAST_MIOU_GAIN = 0.001
_OTHER_CLASSES = 0.25
"""Of the points: what differs in class from one drive to another stays below."""


@dataclass(frozen=True)
class Candidates:
    """A network, what its layers' channels are on a camera's images, and who judges."""

    model: Model
    """The network as it was."""
    card: ModelCard
    layers: tuple[Layer, ...]
    """Those that are moved."""
    found: Mapping[str, Found]
    """Of each layer's value."""
    left: int
    """Layers whose values are pooled to a few positions: they stay."""

    @classmethod
    def of(
        cls, model: Model, card: ModelCard, statistics: Statistics, frames: Frames, *,
        tick: Callable[[], None] = lambda: None,
    ) -> Candidates:  # fmt: skip
        """Measure a network's layers on frames, but for those held back."""
        layers = with_positions(model, find_layers(model, statistics), next(frames.tensors()))
        moved = tuple(layer for layer in layers if not layer.small)
        if not moved:
            raise ModelError(
                "no layer of the network can be moved",
                facts={"found": f"{len(layers)} layers, all of values pooled to a few positions"},
            )
        found = measure(model, moved, frames.tensors(held_back=False), tick=tick)
        return cls(model, card, moved, found, len(layers) - len(moved))

    def at(self, share: float) -> Model:
        """The network moved by a share of the way."""
        moves = {
            layer.value: move_of(layer.expected, self.found[layer.value], share)
            for layer in self.layers
        }
        return folded(self.model, self.layers, moves) if share else self.model

    def try_shares(
        self,
        shares: Sequence[float],
        frames: Frames,
        *,
        tick: Callable[[], None] = lambda: None,
    ) -> tuple[Trial, ...]:
        """How the answers of the network as it was, and at each share, look on frames held back."""
        trials = []
        for share in (0.0, *shares):
            look = look_at(session_of(self.at(share)), self.card, frames.tensors(held_back=True))
            trials.append(Trial(share, look.information, look.confidence, look.class_shares))
            tick()
        return tuple(trials)

    def with_miou(
        self, trials: Sequence[Trial], dataset: Dataset, *, limit: int | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> tuple[Trial, ...]:  # fmt: skip
        """The same with their mean IoU on labelled images, on ONNX Runtime."""
        scored = []
        with tempfile.TemporaryDirectory(prefix="segedge-") as folder:
            for trial in trials:
                path = Path(folder) / f"share-{trial.share:g}.onnx"
                path.write_bytes(to_bytes(self.at(trial.share)))
                with load(path, backend="onnxruntime", card=self.card, check=False) as segmenter:
                    found = evaluate(segmenter, dataset, boundary=False, limit=limit)
                scored.append(replace(trial, miou=found.miou))
                tick()
        return tuple(scored)


def best_of(trials: Sequence[Trial], *, asked: float | None) -> Trial:
    """What is taken: the first, the network as it was, where nothing is better by enough.

    Without labels it must be surer than it was, too, or tell twice as much: where images hold few
    classes, statistics that make it see more of them gain a little information and lose what it
    knew; but one that calls everything road is sure of it. docs/adapt.md has the figures that the
    least gains are from. A share that was asked for must only gain something.

    ModelError: an answer is not finite.
    """
    before, others = trials[0], trials[1:]
    if any(trial.information != trial.information for trial in trials):
        raise ModelError(
            "the network gives NaN on these images",
            fix="check the weights; segedge inspect MODEL says where they are from",
        )
    if before.miou is not None:
        least = _LEAST_MIOU_GAIN
    else:
        least = LEAST_GAIN
        others = tuple(
            trial
            for trial in others
            if asked is not None
            or trial.confidence >= before.confidence + LEAST_SURER
            or trial.information >= 2.0 * before.information
        )
    best = max(others, key=_worth, default=before)
    gain = _worth(best) - _worth(before)
    return best if gain > (0.0 if asked is not None else least) else before


def other_classes(trial: Trial, known: Familiar | None) -> tuple[str, ...]:
    """A warning where the images show other classes than those that the network knows."""
    if known is None or len(known.class_shares) != len(trial.class_shares):
        return ()
    moved = float(np.abs(np.subtract(trial.class_shares, known.class_shares)).sum() / 2.0)
    if moved < _OTHER_CLASSES:
        return ()
    return (
        f"these images show other classes than those it was {known.when} with ({100 * moved:.0f} % "
        "of the points differ in class): the file fits such images, and others less. Take images "
        "of all that the camera sees, or judge by labels: --evaluate",
    )


def _worth(trial: Trial) -> float:
    return trial.information if trial.miou is None else trial.miou
