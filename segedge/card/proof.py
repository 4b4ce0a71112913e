"""The proof: test pictures, and what the original network says to them.

It travels in the file beside the card. Whoever opens the file on a backend, a device or in a
precision that has not proved itself yet shows it the picture and compares; see
`segedge.segment.check`. Made by `segedge.convert.proof`.

At points spread over the network's input (or over the original's own output, where that is
smaller) it holds the original's label, and at some of them how far the logit of that label lies
above that of *one* other class, which changes from point to point, so that all classes are seen.
Such margins are the same whether the original gives logits, log-probabilities or probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.attachments import PROOF_KEY, Attachment
from segedge.card.geometry import Size
from segedge.card.packed import packed, unpacked
from segedge.card.picture import MOST_PIXELS, Picture
from segedge.errors import CardError

MOST_BYTES = 64_000
"""Of a proof's JSON."""
TIE = 1e-4
"""Top-2 margin, as a share of the logits' range, below which a label is rounding and not told."""
FilePrecision = Literal["f32", "f16", "int8"]
MOST_POINTS = 1 << 15
"""Of an answer."""
_TOLD = {np.dtype("<u1"): 254, np.dtype("<u2"): 65534}
"""Type of packed labels to the largest label in it; one more stands for a tie."""
_UNTOLD = 65535
"""A margin that is not known: the original's probabilities are too close to 0 or 1."""


@dataclass(frozen=True)
class Answer:
    """What the original says to one picture."""

    picture: Picture
    plane_height: int
    plane_width: int
    """Of the plane that points lie on: the network's input, or the original's own output."""
    rows: int
    columns: int
    """Points, evenly spread; see `spread`."""
    classes: int
    span: float
    """From the smallest to the largest logit, or to the largest margin where that is all."""
    labels: str
    """Of each point, row by row: compressed, as base64."""
    step: int
    """Of how many points one has a margin; 0: none has."""
    margins: str
    """In `_UNTOLD` - 1 parts of the span: compressed, as base64."""

    def __post_init__(self) -> None:
        points, plane = self.rows * self.columns, self.plane_height * self.plane_width
        counts = (self.rows, self.columns, self.classes)
        if min(counts) < 1 or self.rows > self.plane_height or self.columns > self.plane_width:
            raise CardError(f"{self.rows}x{self.columns} points do not lie on {plane} pixels")
        if plane > MOST_PIXELS:
            raise CardError(f"a plane of {self.plane} is larger than there can be")
        if points > MOST_POINTS or self.classes > _TOLD[np.dtype("<u2")] or self.step < 0:
            raise CardError("a proof has more points or classes than there can be")
        if not 0 < self.span < float("inf"):
            raise CardError(f"logits do not span {self.span}")
        _ = self.label_at_points, self.margin_at_points  # damage is found now, not in mid-check

    @property
    def plane(self) -> Size:
        """Height and width of the plane that points lie on."""
        return Size(self.plane_height, self.plane_width)

    @cached_property
    def label_at_points(self) -> NDArray[np.int64]:
        """The original's labels, rows x columns; -1 where they are a tie."""
        kind = _label_kind(self.classes)
        found = unpacked(self.labels, kind, self.rows * self.columns, what="the proof").astype(
            np.int64
        )
        if np.any((found >= self.classes) & (found <= _TOLD[kind])):
            raise CardError("a label of the proof is none of its classes")
        return np.where(found > _TOLD[kind], -1, found).reshape(self.rows, self.columns)

    @cached_property
    def margin_at_points(self) -> NDArray[np.float64]:
        """Margins of every ``step``-th point, in logits; NaN where they are not known."""
        count = len(margin_points(self.rows * self.columns, self.step))
        found = unpacked(self.margins, np.dtype("<u2"), count, what="the proof").astype(np.float64)
        return np.where(found == _UNTOLD, np.nan, found * (self.span / (_UNTOLD - 1)))


@dataclass(frozen=True)
class Proof:
    """What a file shall compute."""

    graph_sha256: str
    """Of the graph with its weights; see `segedge.card.modelfile.graph_sha256`."""
    witness: str
    """Who answered: ``PyTorch 2.13``, ``ONNX Runtime 1.32, optimisations off``."""
    precision: FilePrecision
    """What the file is made to compute in."""
    height: int
    width: int
    """Of the network's input when the pictures were shown."""
    logit_bound: float
    """Largest difference of margins that the file's own precision may make, as a share of the
    span."""
    answers: tuple[Answer, ...]
    """The first is of a frame that is not of the network's size: it goes through preprocessing."""
    label_bound: float | None = None
    """Least share of the clear labels that stay, where the file's own precision changes some;
    None: all but a few do."""

    def __post_init__(self) -> None:
        if not self.answers or not 0 < self.logit_bound < 1:
            raise CardError("a proof has answers, and a bound between 0 and 1")
        if self.label_bound is not None and not 0 < self.label_bound <= 1:
            raise CardError(f"a share of labels is no {self.label_bound}")

    @property
    def network(self) -> Size:
        """Height and width of the network's input."""
        return Size(self.height, self.width)


PROOF = Attachment(PROOF_KEY, Proof, version=1, most_bytes=MOST_BYTES)
"""How a proof lies among a file's metadata."""


def spread(length: int, count: int) -> NDArray[np.int64]:
    """``count`` indices evenly over ``length``, each in the middle of its share."""
    return (2 * np.arange(count, dtype=np.int64) + 1) * length // (2 * count)


def margin_points(points: int, step: int) -> NDArray[np.int64]:
    """Which points have a margin."""
    return np.arange(0, points, step, dtype=np.int64) if step else np.zeros(0, np.int64)


def rivals(points: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """The class that the label's logit is compared with at these points.

    Neighbours differ, and a column of points sees all classes, too.
    """
    return points * 7919 // 8 % max(classes, 1)


def packed_labels(labels: NDArray[np.int64], classes: int) -> str:
    """Labels as an `Answer` holds them; -1 stands for a tie."""
    kind = _label_kind(classes)
    return packed(np.where(labels < 0, _TOLD[kind] + 1, labels).astype(kind))


def packed_margins(margins: NDArray[np.float64], span: float) -> str:
    """Margins as an `Answer` holds them; NaN where one is not known."""
    known = np.isfinite(margins)
    parts = np.clip(np.where(known, margins, 0.0) / span, 0.0, 1.0) * (_UNTOLD - 1)
    return packed(np.where(known, np.floor(parts + 0.5), _UNTOLD).astype("<u2"))


def _label_kind(classes: int) -> np.dtype[np.generic]:
    return np.dtype("<u1" if classes <= _TOLD[np.dtype("<u1")] + 1 else "<u2")
