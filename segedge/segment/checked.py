"""What came of a proof: figures, whether they are good enough, and words for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segedge.backends.base import PRECISIONS, Precision
from segedge.card.plain import to_plain
from segedge.card.proof import Proof

WRONG_WEIGHTS = "the weights are not those that were exported"
EXACT_ENOUGH = 0.999
"""Share of labels that float32 keeps, and that a tail draws as the reference does."""


@dataclass(frozen=True)
class Bound:
    """What a precision may change."""

    labels: float
    """Least share of the clear labels that stay, 0..1."""
    error: float
    """Largest difference of a margin between logits, as a share of their span."""


BOUNDS: dict[Precision, Bound] = {
    "tf32": Bound(0.99, 0.02),
    "f16": Bound(0.99, 0.03),
    "bf16": Bound(0.90, 0.2),
    "int8": Bound(0.85, 0.3),
}
"""Of precisions below float32, whose own bound is in the proof; int8 files bring theirs, too.

int8 is compared with what a file's nodes say, computed without rounding in between. On 2 cores of
an AMD EPYC with AVX2, labels of the street network's int8 files are 90.8 to 98.9 % the same and
logits 0.008 to 0.2 of their span off; 7-bit weights with uint8 activations are at the good end."""


@dataclass(frozen=True)
class Checked:
    """A file on a backend, beside what the original says."""

    backend: str
    """Library and version: ``OpenVINO 2026.4.1``."""
    precision: Precision
    """What computes: the less exact of the backend's and the file's."""
    file_precision: Precision
    """What the file is made for."""
    labels: float
    """Share of the clear labels that are as the original's, 0..1."""
    error: float | None
    """Largest difference of a margin between two logits, as a share of the logits' span; None
    where the network gives labels only."""
    tail: float
    """Share of the frame's clear pixels that have the label that their logits say, 0..1."""
    within: bool
    """Whether all of it is within what the precision may change."""
    exact: bool = True
    """False: in float32 the same backend computes something else, too."""
    same_weights: bool = True
    """Whether the file holds the weights that were exported."""

    @property
    def passed(self) -> bool:
        """Whether the backend computes what was exported."""
        return self.within and self.exact

    @property
    def is_sound(self) -> bool:
        """Whether it does, with the weights that were exported."""
        return self.passed and self.same_weights

    @property
    def rounds(self) -> bool:
        """Whether the backend computes less exactly than the file asks for."""
        return PRECISIONS.index(self.precision) > PRECISIONS.index(self.file_precision)

    @property
    def figures(self) -> str:
        """``100 % of clear labels, logits within 2e-5 (OpenVINO, f32)``."""
        words = f"{percent(self.labels)} of clear labels"
        if self.passed and self.rounds and self.labels < 1.0:
            words += f" ({percent(1.0 - self.labels)} changed by {self.precision})"
        if self.error is not None:
            words += f", logits {'within' if self.passed else 'off by'} {self.error:.0e}"
        if self.tail < EXACT_ENOUGH:
            words += f", {percent(self.tail)} of pixels drawn as their logits say"
        name = " ".join(word for word in self.backend.split() if not word[:1].isdigit())
        where = f"{name}, {self.precision}" + ("" if self.exact else " and f32")
        return f"{words} ({where})"

    @property
    def text(self) -> str:
        """The figures and what they mean, in a line."""
        how = "as exported" if self.passed else "not as exported"
        if self.passed and self.rounds:
            how = f"as exported, within {self.precision}"
        return f"{how}: {self.figures}" + ("" if self.same_weights else f"; {WRONG_WEIGHTS}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**to_plain(self), "passed": self.passed, "text": self.text}


def coarser(one: Precision, other: Precision) -> Precision:
    """The less exact of two."""
    return max(one, other, key=PRECISIONS.index)


def bound_of(proof: Proof, precision: Precision) -> Bound:
    """What may differ in a precision."""
    if precision == "int8" and proof.label_bound is not None:
        return Bound(proof.label_bound, proof.logit_bound)
    own = Bound(EXACT_ENOUGH, proof.logit_bound)
    loose = BOUNDS.get(precision, own)
    return Bound(min(own.labels, loose.labels), max(own.error, loose.error))


def percent(share: float) -> str:
    """``100 %``, ``99.97 %``: what is not all is never rounded up to it."""
    text = f"{100 * share:.2f}".rstrip("0").rstrip(".")
    if share < 1.0 and text == "100":
        text = "99.99"
    return f"{text} %"
