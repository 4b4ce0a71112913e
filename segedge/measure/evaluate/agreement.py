"""How far two models, or two backends, say the same about the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.errors import UsageError
from segedge.reference.agreement import LabelCount
from segedge.reference.frame import TIE

_SATURATED_SHARE = 0.01
"""Share of an image's logits at exactly one extreme value, above which they count as clipped."""
_SATURATED_VALUES = 16
"""So many of them at least: in a tiny output one value is a large share."""
_EQUAL, _OTHER, _AMBIGUOUS = 0, 1, 2


class Answer(Protocol):
    """What is read of a segmenter's result."""

    @property
    def labels(self) -> NDArray[Any]:
        """H x W labels."""

    @property
    def margin(self) -> NDArray[np.float32]:
        """H x W, best minus second-best logit."""

    @property
    def logits(self) -> Any:
        """The network's own output."""


class Answering(Protocol):
    """A segmenter, as far as a comparison needs one."""

    card: ModelCard

    def __call__(self, image: NDArray[np.uint8]) -> Answer:
        """Segment one image."""


@dataclass(frozen=True)
class ImageAgreement(LabelCount):
    """One image through both; ties are the first's. Errors are of finite logits on one grid."""

    name: str = ""


@dataclass(frozen=True)
class Agreement:
    """All images through both."""

    classes: tuple[str, ...]
    images: tuple[ImageAgreement, ...]
    confusion: NDArray[np.int64]
    """Unambiguous pixels by label in the first (row) and in the second (column)."""
    findings: tuple[str, ...]
    """NaN, inf, clipped and one-class output, a sentence each; empty is healthy."""

    @property
    def agreement(self) -> float:
        """Share of unambiguous pixels with the same label, 0..1, over all images."""
        total = int(self.confusion.sum())
        return float(np.trace(self.confusion)) / total if total else 1.0

    @property
    def ambiguous(self) -> float:
        """Share of pixels that are ties in the first, 0..1."""
        return self._total.ambiguous_share

    @property
    def max_logit_error(self) -> float | None:
        """Largest absolute difference of the logits; None where none could be compared."""
        return self._total.max_logit_error

    @property
    def _total(self) -> LabelCount:
        return sum(self.images, LabelCount())

    @property
    def class_agreement(self) -> dict[str, float | None]:
        """Intersection over union of the two label maps, a class; None where neither has it."""
        same = np.diag(self.confusion)
        either = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - same
        return {
            name: float(same[i]) / float(either[i]) if either[i] else None
            for i, name in enumerate(self.classes)
        }

    @property
    def worst(self) -> ImageAgreement:
        """The image on which they differ most."""
        return min(self.images, key=lambda image: image.agreement)

    def worst_images(self, count: int) -> tuple[ImageAgreement, ...]:
        """The images on which they differ most, worst first; none on which they do not."""
        differ = [image for image in self.images if image.agreement < 1.0]
        return tuple(sorted(differ, key=lambda image: (image.agreement, image.name))[:count])


@dataclass(frozen=True)
class Pair:
    """What both say of one image."""

    name: str
    image: NDArray[np.uint8]
    first: Answer
    second: Answer
    states: NDArray[np.uint8]
    """As `difference` gives them."""


def compare(
    first: Answering,
    second: Answering,
    images: Iterable[tuple[str, NDArray[np.uint8]]],
    *,
    each: Callable[[Pair], None] | None = None,
) -> Agreement:
    """Run two segmenters over the same images.

    Args:
        first: The reference: its ties are left out.
        second: What is compared with it.
        images: Name and H x W x 3 uint8 BGR image of each.
        each: Called with every pair of answers.

    Raises:
        UsageError: The two have other classes, or there is no image.
    """
    check_classes(first.card, second.card)
    count = len(first.card.classes)
    confusion = np.zeros((count, count), np.int64)
    rows = []
    health = (_Health("the first"), _Health("the second"))
    for name, image in images:
        one, two = first(image), second(image)
        states = difference(one, two, first.card)
        clear = states != _AMBIGUOUS
        pairs = one.labels[clear].astype(np.int64) * count + two.labels[clear]
        confusion += np.bincount(pairs, minlength=count * count).reshape(count, count)
        rows.append(_row(name, states, _logit_error(one, two, first.card, second.card)))
        for state, answer, card in zip(health, (one, two), (first.card, second.card), strict=True):
            state.add(name, answer, card)
        if each is not None:
            each(Pair(name, image, one, two, states))
    if not rows:
        raise UsageError("there is no image to compare on", fix="--images FOLDER")
    findings = tuple(text for state in health for text in state.findings(first.card.classes))
    return Agreement(first.card.classes, tuple(rows), confusion, findings)


def difference(one: Answer, two: Answer, card: ModelCard) -> NDArray[np.uint8]:
    """H x W: 0 where the labels are equal, 1 where they differ, 2 where the first has a tie."""
    states: NDArray[np.uint8] = np.asarray(one.labels != two.labels, np.uint8)
    if card.head == "logits" and len(card.classes) > 1:
        finite = _finite(one)
        span = float(np.ptp(finite)) if finite.size else 0.0
        if card.activation == "sigmoid" and finite.size:  # the background's logit is zero
            span = float(max(finite.max(), 0.0) - min(finite.min(), 0.0))
        states[one.margin <= TIE * span] = _AMBIGUOUS
    return states


def check_classes(first: ModelCard, second: ModelCard) -> None:
    """Raise UsageError where two cards name other classes."""
    if tuple(map(str.lower, first.classes)) != tuple(map(str.lower, second.classes)):
        raise UsageError(
            "the two models have different classes",
            facts={"first": ", ".join(first.classes), "second": ", ".join(second.classes)},
            fix="compare models of one class list, in one order",
        )


def _row(name: str, states: NDArray[np.uint8], error: float | None) -> ImageAgreement:
    counted = LabelCount.of(states == _EQUAL, states != _AMBIGUOUS, max_logit_error=error)
    return ImageAgreement(**vars(counted), name=name)


def _values(answer: Answer) -> NDArray[np.float64]:
    return np.asarray(np.asarray(answer.logits), np.float64)


def _finite(answer: Answer) -> NDArray[np.float64]:
    values = _values(answer)
    return np.asarray(values[np.isfinite(values)])


def _logit_error(one: Answer, two: Answer, first: ModelCard, second: ModelCard) -> float | None:
    if "labels" in (first.head, second.head) or first.logits_layout != second.logits_layout:
        return None
    here, there = _values(one), _values(two)
    if here.shape != there.shape:
        return None
    both = np.isfinite(here) & np.isfinite(there)
    return float(np.abs(here[both] - there[both]).max(initial=0.0))


class _Health:
    """What is wrong with one side's output, over all images."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._nonfinite: list[str] = []
        self._clipped: list[str] = []
        self._labels: set[int] = set()
        self._images = 0

    def add(self, name: str, answer: Answer, card: ModelCard) -> None:
        """Look at one image's output."""
        self._images += 1
        self._labels.update(np.unique(answer.labels).tolist())
        if card.head == "labels":
            return
        values = _values(answer)
        if not np.isfinite(values).all():
            self._nonfinite.append(name)
        finite = values[np.isfinite(values)]
        if finite.size and np.ptp(finite):
            ends = (finite.max(), finite.min())
            at_end = max(int(np.count_nonzero(finite == end)) for end in ends)
            if at_end > max(_SATURATED_SHARE * finite.size, _SATURATED_VALUES):
                self._clipped.append(name)

    def findings(self, classes: tuple[str, ...]) -> list[str]:
        """Sentences, the worst first."""
        found = []
        of = f"of {self._images} images"
        if self._nonfinite:
            found.append(
                f"{self._who} gives NaN or inf on {len(self._nonfinite)} {of}, "
                f"first {self._nonfinite[0]}"
            )
        if len(self._labels) == 1 and len(classes) > 1:
            only = classes[min(next(iter(self._labels)), len(classes) - 1)]
            found.append(f"{self._who} gives one class everywhere: {only}")
        if self._clipped:
            found.append(
                f"{self._who} is saturated on {len(self._clipped)} {of}: over "
                f"{100 * _SATURATED_SHARE:.0f} % of its logits have one extreme value, "
                f"first {self._clipped[0]}"
            )
        return found
