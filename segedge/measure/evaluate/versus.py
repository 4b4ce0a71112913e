"""Two models on one labelled data set: how far they agree, and which is nearer to the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError
from segedge.measure.datasets.datasets import Dataset, Sample
from segedge.measure.evaluate.agreement import Agreement, Answering, Pair, compare
from segedge.measure.evaluate.confusion import Confusion
from segedge.measure.evaluate.evaluate import check_dataset, spread
from segedge.measure.evaluate.metrics import counted, plain
from segedge.measure.evaluate.passing import read_pair


@dataclass(frozen=True)
class ImageDifference:
    """One image: mIoU of the classes that occur in it, 0..1; NaN where nothing counts."""

    name: str
    first: float
    second: float

    @property
    def drop(self) -> float:
        """How much the second is worse, as a share."""
        return self.first - self.second


@dataclass(frozen=True)
class Versus:
    """What was found on a data set; failures are (image, reason) of what could not be read."""

    agreement: Agreement
    first: Confusion
    second: Confusion
    images: tuple[ImageDifference, ...]
    failures: tuple[tuple[str, str], ...]
    dataset: Dataset = field(repr=False)

    @property
    def miou_difference(self) -> float:
        """The second's mIoU less the first's, as a share."""
        return self.second.miou - self.first.miou

    def worst(self, count: int) -> tuple[ImageDifference, ...]:
        """The images on which the second loses most against the first, worst first."""
        lost = [image for image in self.images if image.drop > 0.0]
        return tuple(sorted(lost, key=lambda image: (-image.drop, image.name))[:count])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "dataset": self.dataset.name,
            "miou_difference": plain(self.miou_difference),
            **{
                f"{who}_scores": {**counted(found), "iou": found.iou_per_class}
                for who, found in (("first", self.first), ("second", self.second))
            },
            "image_miou": [
                {"name": i.name, "first": plain(i.first), "second": plain(i.second)}
                for i in self.images
            ],
            "missing": list(self.dataset.missing),
            "failures": [{"image": name, "reason": reason} for name, reason in self.failures],
            "notes": list(self.dataset.notes),
        }


def compare_on(
    first: Answering,
    second: Answering,
    dataset: Dataset,
    *,
    limit: int | None = None,
    each: Callable[[Pair], None] | None = None,
) -> Versus:
    """Run two segmenters over a labelled data set, each image once.

    Args:
        first: The reference: its ties are left out of the agreement, not of the scores.
        second: What is compared with it.
        dataset: Opened for the first one's classes.
        limit: At most this many images, spread evenly.
        each: Called with every pair of answers.

    Raises:
        UsageError: The two have other classes, the data set's are not theirs, labels have another
            size than their image, or hold values that name no class.
        SourceError: Not one image could be read.
    """
    check_dataset(dataset, first.card.classes)
    samples = spread(dataset.samples, limit)
    truths: dict[str, NDArray[np.int16]] = {}
    failures: list[tuple[str, str]] = []
    images: list[ImageDifference] = []
    totals = Confusion(dataset.classes), Confusion(dataset.classes)

    def score(pair: Pair) -> None:
        truth = truths.pop(pair.name)
        own = Confusion(dataset.classes), Confusion(dataset.classes)
        for total, one, answer in zip(totals, own, (pair.first, pair.second), strict=True):
            one.add(truth, np.asarray(answer.labels))
            total.merge(one)
        images.append(ImageDifference(pair.name, own[0].miou, own[1].miou))
        if each is not None:
            each(pair)

    agreement = compare(first, second, _readable(samples, truths, failures), each=score)
    return Versus(agreement, *totals, tuple(images), tuple(failures), dataset)


def _readable(
    samples: tuple[Sample, ...],
    truths: dict[str, NDArray[np.int16]],
    failures: list[tuple[str, str]],
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Images one by one; their labels go into ``truths``, those that cannot be read to failures."""
    read = False
    for sample in samples:
        try:
            image, truths[sample.name] = read_pair(sample)
        except SourceError as error:
            failures.append((sample.name, error.facts.get("found", error.headline)))
            continue
        read = True
        yield sample.name, image
    if not read:
        raise SourceError(
            f"none of {len(failures)} images can be read",
            facts={"first": ": ".join(failures[0])},
        )
