"""evaluate(): a model's scores on a data set, through the very path that `segedge run` takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError, UsageError
from segedge.machine.environment import Environment
from segedge.measure.datasets.datasets import Dataset, Sample
from segedge.measure.datasets.sequence import TimedSample
from segedge.measure.evaluate.boundary import TOLERANCE
from segedge.measure.evaluate.confusion import Confusion
from segedge.measure.evaluate.doubts import doubts
from segedge.measure.evaluate.metrics import BOUNDARY, BY_IMAGE, Metric, counted, plain
from segedge.measure.evaluate.passing import Pair, Passing, read_pair

if TYPE_CHECKING:
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

_READ_AHEAD = 4
"""Decoded images that wait for the network."""
_WORKERS = 2
"""Threads that read, and threads that score, while the network computes."""


@dataclass(frozen=True)
class ImageScore:
    """How one image fared, by its path below the data set; shares of the pixels that count, 0..1.

    Its mIoU is that of the classes that occur in it; NaN where nothing of it counts.
    """

    name: str
    miou: float
    pixel_accuracy: float
    pixels: int


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a data set. Shares are 0..1; NaN and None: nothing to measure."""

    confusion: Confusion
    by_image: dict[str, dict[str, float | None]]
    """Metric that is measured image by image to each class's mean over the images that have it;
    without a class where it was not asked for."""
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
    ignored: str = ""
    """Why pixels do not count, where some do not."""
    motion: dict[str, Any] | None = None
    """Where the network saw some images only: how many, and how far carried labels agree with its
    own; see `MotionSummary`. None: it saw each."""

    @property
    def count(self) -> int:
        """Images evaluated."""
        return len(self.images)

    def score(self, metric: Metric) -> float | None:
        """One of `METRICS`; None where it was not asked for."""
        if metric.of_counts is not None:
            return metric.of_counts(self.confusion)
        known = [value for value in self.by_image[metric.key].values() if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def miou(self) -> float:
        """Mean IoU of the classes that occur in truth or prediction."""
        return self.confusion.miou

    @property
    def iou(self) -> dict[str, float | None]:
        """IoU of each class of the card."""
        return self.confusion.iou_per_class

    @property
    def pixel_accuracy(self) -> float:
        """Share of counted pixels with the right class."""
        return self.confusion.pixel_accuracy

    @property
    def mean_accuracy(self) -> float:
        """Mean recall of the classes that occur in the truth."""
        return self.confusion.mean_accuracy

    @property
    def boundary_f(self) -> float | None:
        """Mean boundary F-score of the classes; None where it was not asked for."""
        return self.score(BOUNDARY)

    def worst(self, count: int = 10) -> tuple[ImageScore, ...]:
        """The images with the lowest mIoU, worst first."""
        counted = [image for image in self.images if image.pixels]
        return tuple(sorted(counted, key=lambda image: (image.miou, image.name))[:count])

    def to_dict(self, *, worst: int = 10) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        return {
            **counted(self.confusion),
            "iou": self.iou,
            **{metric.key: self.score(metric) for metric in BY_IMAGE},
            **{f"{key}_per_class": scores for key, scores in self.by_image.items()},
            "boundary_tolerance": TOLERANCE,
            "dataset": self.dataset,
            "images": self.count,
            "pixels": self.confusion.pixels,
            "ignored": self.confusion.ignored_share,
            "ignored_by": self.ignored,
            "missing": list(self.missing),
            "failures": [{"image": name, "reason": reason} for name, reason in self.failures],
            "notes": list(self.notes),
            "worst": [
                {
                    "image": image.name,
                    "miou": plain(image.miou),
                    "pixel_accuracy": plain(image.pixel_accuracy),
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
            "motion": self.motion,
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
    sequence: Sequence[TimedSample] | None = None,
) -> Evaluation:
    """Run a model over a data set and count what it gets right.

    Images and labels are read ahead, and results scored, in threads of their own.

    Args:
        segmenter: The opened model; it stays open. One call at a time is made.
        dataset: Its classes must be the model's; see `datasets.open_dataset`.
        progress: Called with (images done, images in all) after each.
        boundary: Whether the boundary F-score is computed.
        limit: At most this many images, spread evenly over the data set; of a sequence the first.
        sequence: The images as frames of a video; see `datasets.sequence`. They go through a
            segmenter with motion as `segedge run` would take them from a file.

    Raises:
        UsageError: Classes differ, labels have another size than their image, or hold values that
            name no class, or nothing counts.
        SourceError: Not one image could be read.
    """
    check_dataset(dataset, segmenter.card.classes)
    if sequence is None:
        samples = spread(dataset.samples, limit)
    else:
        samples = tuple(timed.sample for timed in sequence[:limit])
    passing = Passing(segmenter, sequence)
    tally = _Tally(dataset.classes)
    started: float | None = None
    with ExitStack() as opened:
        readers, scorers = (ThreadPoolExecutor(_WORKERS) for _ in range(2))
        for pool in (readers, scorers):
            opened.callback(pool.shutdown, cancel_futures=True)
        waiting: deque[Future[_Score]] = deque()
        _warm_up(segmenter, samples)
        started = time.perf_counter()
        for sample, pair, labels in passing.run(_read_ahead(readers, samples, tally)):
            score = (sample.name, pair[1], labels, len(dataset.classes))
            waiting.append(scorers.submit(_score, *score, BY_IMAGE if boundary else ()))
            while len(waiting) > _READ_AHEAD or (waiting and waiting[0].done()):
                tally.add(waiting.popleft().result())
                _tell(progress, tally, len(samples))
        for future in waiting:
            tally.add(future.result())
            _tell(progress, tally, len(samples))
    seconds = time.perf_counter() - started
    return tally.evaluation(segmenter, dataset, seconds, passing.motion)


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
    by_image: dict[str, NDArray[np.float64]]


class _Tally:
    """The sums over all images."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.confusion = Confusion(classes)
        self.images: list[ImageScore] = []
        self.by_image: dict[str, list[NDArray[np.float64]]] = {one.key: [] for one in BY_IMAGE}
        self.failures: list[tuple[str, str]] = []

    def add(self, score: _Score) -> None:
        self.confusion.merge(score.confusion)
        self.images.append(score.image)
        for key, values in score.by_image.items():
            self.by_image[key].append(values)

    def evaluation(
        self,
        segmenter: Segmenter | CudaSegmenter,
        dataset: Dataset,
        seconds: float,
        motion: dict[str, Any] | None,
    ) -> Evaluation:
        if not self.images:
            raise SourceError(
                f"none of {len(self.failures)} images of {dataset.name} can be read",
                facts={"first": ": ".join(self.failures[0]) if self.failures else "-"},
            )
        decoder = dataset.decoder if self.confusion.ignored_share else None
        reasons = decoder.reasons() if decoder else ""
        if not self.confusion.pixels:
            raise _nothing_counted(self.confusion, dataset, reasons)
        return Evaluation(
            confusion=self.confusion,
            by_image={k: _mean_over_images(v, dataset.classes) for k, v in self.by_image.items()},
            images=tuple(self.images),
            failures=tuple(self.failures),
            dataset=dataset.name,
            missing=dataset.missing,
            notes=(*dataset.notes, *doubts(self.confusion, dataset)),
            backend=segmenter.backend_name,
            description=segmenter.backend.description,
            precision=segmenter.card.precision,
            seconds=seconds,
            environment=Environment.capture(),
            slide=segmenter.windows,
            cleaning=segmenter.options.cleaning.describe(),
            motion=motion,
            ignored=reasons,
        )


def _nothing_counted(confusion: Confusion, dataset: Dataset, reasons: str) -> UsageError:
    pixels = int(confusion.ignored.sum())
    return UsageError(
        f"nothing of {dataset.name} counts",
        facts={"found": f"all {pixels} pixels are ignored: {reasons}"},
        fix=f"say which class they are, e.g. --map 255={dataset.classes[-1]}, "
        "or what else is ignored: --ignore VALUE",
    )


def spread(samples: tuple[Sample, ...], limit: int | None) -> tuple[Sample, ...]:
    """At most ``limit`` samples, evenly spaced: neighbours in a data set look alike."""
    if not samples:
        raise UsageError("the data set holds no labelled image")
    if limit is None or limit >= len(samples):
        return samples
    if limit < 1:
        raise UsageError(f"--limit must be at least 1, found {limit}")
    return tuple(samples[number * len(samples) // limit] for number in range(limit))


def _read_ahead(
    readers: ThreadPoolExecutor, samples: tuple[Sample, ...], tally: _Tally
) -> Iterator[tuple[Sample, Pair]]:
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
    metrics: Sequence[Metric],
) -> _Score:
    confusion = Confusion(tuple(map(str, range(classes))))
    confusion.add(truth, prediction)
    scores = {
        metric.key: metric.of_image(truth, prediction, classes)
        for metric in metrics
        if metric.of_image is not None
    }
    image = ImageScore(name, confusion.miou, confusion.pixel_accuracy, confusion.pixels)
    return _Score(image, confusion, scores)


def _mean_over_images(
    scores: list[NDArray[np.float64]], classes: tuple[str, ...]
) -> dict[str, float | None]:
    """Class to the mean over the images that have a score of it."""
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
