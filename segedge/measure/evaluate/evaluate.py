"""evaluate(): a model's scores on a data set, through the very path that `segedge run` takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError, UsageError
from segedge.frames.frame import Frame
from segedge.machine.environment import Environment
from segedge.measure.datasets.datasets import Dataset, Sample
from segedge.measure.evaluate.boundary import TOLERANCE, boundary_scores
from segedge.measure.evaluate.confusion import Confusion

if TYPE_CHECKING:
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

_READ_AHEAD = 4
"""Decoded images that wait for the network."""
_WORKERS = 2
"""Threads that read, and threads that score, while the network computes."""


@dataclass(frozen=True)
class ImageScore:
    """How one image fared."""

    name: str
    """The image's path below the data set."""
    miou: float
    """Mean IoU of the classes that occur in it, 0..1; NaN where nothing of it counts."""
    pixel_accuracy: float
    """Share of counted pixels with the right class, 0..1."""
    pixels: int
    """Pixels that count."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a data set. Shares are 0..1; NaN and None: nothing to measure."""

    miou: float
    """Mean IoU of the classes that occur in truth or prediction."""
    iou: dict[str, float | None]
    """IoU of each class of the card."""
    pixel_accuracy: float
    mean_accuracy: float
    """Mean recall of the classes that occur in the truth."""
    boundary_f: float | None
    """Mean boundary F-score of the classes; None where it was not asked for."""
    boundary_f_per_class: dict[str, float | None]
    """Mean over the images in which the class has an outline."""
    confusion: Confusion
    images: tuple[ImageScore, ...]
    """Every evaluated image, in the data set's order."""
    failures: tuple[tuple[str, str], ...]
    """(image, reason) of those that could not be read."""
    dataset: str
    missing: tuple[str, ...]
    """Images without a label file."""
    notes: tuple[str, ...]
    backend: str
    """Name of the backend."""
    description: str
    """The backend in its own words: library, device, precision."""
    precision: str
    """What the card says of the network's precision; float32 where it says nothing."""
    seconds: float
    """From the first read to the last score; loading and warming up are not in it."""
    environment: Environment = field(repr=False)
    slide: str = ""
    """Which windows slid over the images; empty: whole images."""
    cleaning: str = ""
    """What was done with the labels before they were counted; empty: nothing."""

    @property
    def count(self) -> int:
        """Images evaluated."""
        return len(self.images)

    def worst(self, count: int = 10) -> tuple[ImageScore, ...]:
        """The images with the lowest mIoU, worst first."""
        counted = [image for image in self.images if image.pixels]
        return tuple(sorted(counted, key=lambda image: (image.miou, image.name))[:count])

    def to_dict(self, *, worst: int = 10) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        return {
            "miou": _plain(self.miou),
            "iou": self.iou,
            "pixel_accuracy": _plain(self.pixel_accuracy),
            "mean_accuracy": _plain(self.mean_accuracy),
            "boundary_f": self.boundary_f,
            "boundary_f_per_class": self.boundary_f_per_class,
            "boundary_tolerance": TOLERANCE,
            "dataset": self.dataset,
            "images": self.count,
            "pixels": self.confusion.pixels,
            "missing": list(self.missing),
            "failures": [{"image": name, "reason": reason} for name, reason in self.failures],
            "notes": list(self.notes),
            "worst": [
                {
                    "image": image.name,
                    "miou": _plain(image.miou),
                    "pixel_accuracy": _plain(image.pixel_accuracy),
                }
                for image in self.worst(worst)
            ],
            "classes": list(self.confusion.classes),
            "confusion": self.confusion.matrix.tolist(),
            "backend": self.backend,
            "description": self.description,
            "precision": self.precision,
            "slide": self.slide,
            "cleaning": self.cleaning,
            "seconds": round(self.seconds, 3),
            "environment": vars(self.environment),
        }


def evaluate(
    segmenter: Segmenter | CudaSegmenter,
    dataset: Dataset,
    *,
    progress: Callable[[int, int], None] | None = None,
    boundary: bool = True,
    limit: int | None = None,
) -> Evaluation:
    """Run a model over a data set and count what it gets right.

    Images and labels are read ahead, and results scored, in threads of their own.

    Args:
        segmenter: The opened model; it stays open. One call at a time is made.
        dataset: Its classes must be the model's; see `datasets.open_dataset`.
        progress: Called with (images done, images in all) after each.
        boundary: Whether the boundary F-score is computed.
        limit: At most this many images, spread evenly over the data set.

    Raises:
        UsageError: Classes differ, labels have another size than their image, or hold values that
            name no class.
        SourceError: Not one image could be read.
    """
    check_dataset(dataset, segmenter.card.classes)
    samples = spread(dataset.samples, limit)
    tally = _Tally(dataset.classes)
    started: float | None = None
    with ExitStack() as opened:
        readers, scorers = (ThreadPoolExecutor(_WORKERS) for _ in range(2))
        for pool in (readers, scorers):
            opened.callback(pool.shutdown, cancel_futures=True)
        waiting: deque[Future[_Score]] = deque()
        _warm_up(segmenter, samples)
        started = time.perf_counter()
        for sample, pair in _read_ahead(readers, samples, tally):
            labels = segmenter(Frame(pair[0], stream=None), outputs=("labels",)).labels
            score = (sample.name, pair[1], np.asarray(labels), len(dataset.classes), boundary)
            waiting.append(scorers.submit(_score, *score))
            while len(waiting) > _READ_AHEAD or (waiting and waiting[0].done()):
                tally.add(waiting.popleft().result())
                _tell(progress, tally, len(samples))
        for future in waiting:
            tally.add(future.result())
            _tell(progress, tally, len(samples))
    return tally.evaluation(segmenter, dataset, time.perf_counter() - started)


def check_dataset(dataset: Dataset, classes: tuple[str, ...]) -> None:
    """Raise UsageError where a data set was opened for other classes than these."""
    if dataset.classes != classes:
        raise UsageError(
            "the data set was opened for another model's classes",
            facts={"data set": ", ".join(dataset.classes), "model": ", ".join(classes)},
            fix="open_dataset(path, card_classes=segmenter.card.classes)",
        )


@dataclass(frozen=True)
class _Score:
    """What one image adds."""

    image: ImageScore
    confusion: Confusion
    boundary: NDArray[np.float64] | None


class _Tally:
    """The sums over all images."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.confusion = Confusion(classes)
        self.images: list[ImageScore] = []
        self.boundaries: list[NDArray[np.float64]] = []
        self.failures: list[tuple[str, str]] = []

    def add(self, score: _Score) -> None:
        self.confusion.merge(score.confusion)
        self.images.append(score.image)
        if score.boundary is not None:
            self.boundaries.append(score.boundary)

    def evaluation(
        self, segmenter: Segmenter | CudaSegmenter, dataset: Dataset, seconds: float
    ) -> Evaluation:
        if not self.images:
            raise SourceError(
                f"none of {len(self.failures)} images of {dataset.name} can be read",
                facts={"first": ": ".join(self.failures[0]) if self.failures else "-"},
            )
        per_class = _mean_over_images(self.boundaries, dataset.classes)
        known = [value for value in per_class.values() if value is not None]
        matrix = self.confusion
        return Evaluation(
            miou=matrix.miou,
            iou=matrix.iou_per_class,
            pixel_accuracy=matrix.pixel_accuracy,
            mean_accuracy=matrix.mean_accuracy,
            boundary_f=sum(known) / len(known) if known else None,
            boundary_f_per_class=per_class,
            confusion=matrix,
            images=tuple(self.images),
            failures=tuple(self.failures),
            dataset=dataset.name,
            missing=dataset.missing,
            notes=dataset.notes,
            backend=segmenter.backend_name,
            description=segmenter.backend.description,
            precision=segmenter.card.precision,
            seconds=seconds,
            environment=Environment.capture(),
            slide=_windows(segmenter),
            cleaning=segmenter.cleaning.describe(),
        )


def _windows(segmenter: Segmenter | CudaSegmenter) -> str:
    if segmenter.slide is None or segmenter.window is None:
        return ""
    return segmenter.slide.describe(segmenter.window)


def spread(samples: tuple[Sample, ...], limit: int | None) -> tuple[Sample, ...]:
    """At most ``limit`` samples, evenly spaced: neighbours in a data set look alike.

    Raises:
        UsageError: The data set is empty, or the limit is below one.
    """
    if not samples:
        raise UsageError("the data set holds no labelled image")
    if limit is None or limit >= len(samples):
        return samples
    if limit < 1:
        raise UsageError(f"--limit must be at least 1, found {limit}")
    return tuple(samples[number * len(samples) // limit] for number in range(limit))


_Pair = tuple[NDArray[np.uint8], NDArray[np.int16]]


def read_pair(sample: Sample) -> _Pair:
    """An image and its labels, of one size.

    Raises:
        SourceError: One of them cannot be read.
        UsageError: Their sizes differ, or the labels hold values that name no class.
    """
    image, labels = sample.image(), sample.labels()
    if image.shape[:2] != labels.shape:
        raise UsageError(
            f"{sample.name}: image and labels have different sizes",
            facts={
                "image": f"{image.shape[0]}x{image.shape[1]}",
                "labels": f"{labels.shape[0]}x{labels.shape[1]} ({sample.label_path.name})",
            },
            fix="labels are compared at their own size: give images of that size",
        )
    return image, labels


def _read_ahead(
    readers: ThreadPoolExecutor, samples: tuple[Sample, ...], tally: _Tally
) -> Iterator[tuple[Sample, _Pair]]:
    """Samples in order with what was read; unreadable ones go to the tally's failures."""
    coming = iter(samples)
    queue = deque((s, readers.submit(read_pair, s)) for s in islice(coming, _READ_AHEAD))
    while queue:
        sample, future = queue.popleft()
        queue.extend((s, readers.submit(read_pair, s)) for s in islice(coming, 1))
        try:
            pair = future.result()
        except SourceError as error:
            reason = error.facts.get("found", error.headline)
            tally.failures.append((sample.name, reason))
            continue
        yield sample, pair


def _warm_up(segmenter: Segmenter | CudaSegmenter, samples: tuple[Sample, ...]) -> None:
    """Compile before the clock runs, at the first image's size; it may be unreadable."""
    from segedge.card.geometry import Size

    Confusion(("only",)).add(np.zeros(1, np.int16), np.zeros(1, np.uint8))
    try:
        size = Size(*samples[0].image().shape[:2])
    except SourceError:
        return
    segmenter.warm_up(size, outputs=("labels",))


def _score(
    name: str,
    truth: NDArray[np.int16],
    prediction: NDArray[Any],
    classes: int,
    boundary: bool,
) -> _Score:
    confusion = Confusion(tuple(map(str, range(classes))))
    confusion.add(truth, prediction)
    scores = boundary_scores(truth, prediction, classes=classes) if boundary else None
    image = ImageScore(name, confusion.miou, confusion.pixel_accuracy, confusion.pixels)
    return _Score(image, confusion, scores)


def _mean_over_images(
    scores: list[NDArray[np.float64]], classes: tuple[str, ...]
) -> dict[str, float | None]:
    """Class to the mean over the images in which it has an outline."""
    if not scores:
        return {}
    table = np.stack(scores)
    known = ~np.isnan(table)
    sums, counts = np.where(known, table, 0.0).sum(axis=0), known.sum(axis=0)
    return {
        name: float(total / count) if count else None
        for name, total, count in zip(classes, sums, counts, strict=True)
    }


def _tell(progress: Callable[[int, int], None] | None, tally: _Tally, total: int) -> None:
    if progress is not None:
        progress(len(tally.images) + len(tally.failures), total)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value
