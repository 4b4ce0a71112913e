"""Pictures of images that a model gets wrong: image, truth, prediction and errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb
from segedge.errors import SourceError
from segedge.measure.datasets.datasets import Dataset, Sample
from segedge.measure.datasets.mapping import IGNORED
from segedge.measure.datasets.sequence import TimedSample
from segedge.measure.evaluate.confusion import Confusion
from segedge.measure.evaluate.passing import Pair, Passing, read_pair
from segedge.video.sinks.png import encode_labels_png

if TYPE_CHECKING:
    from segedge.measure.evaluate.evaluate import ImageScore
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

_WIDEST = 640
"""Pixels across, so that a page of ten images stays at a few MB."""
_WRONG_BGR = (255, 0, 255)
_DIM, _DIMMEST = 0.55, 0.2
_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Shot:
    """One image in four pictures, and what was mistaken for what."""

    score: ImageScore
    image_jpeg: bytes
    truth_png: bytes
    """In the classes' colours; what does not count is black."""
    prediction_png: bytes
    errors_jpeg: bytes
    """The darkened image, wrong pixels in magenta, what does not count nearly black."""
    mistakes: tuple[tuple[str, str, float], ...]
    """Most frequent first: true class, predicted class, share of the counted pixels."""


def take_shots(
    segmenter: Segmenter | CudaSegmenter,
    dataset: Dataset,
    scores: Iterable[ImageScore],
    *,
    sequence: Sequence[TimedSample] | None = None,
) -> tuple[Shot, ...]:
    """Run images once more and draw them; those that cannot be read any more are left out.

    Of a sequence all images are run: what is shown of one depends on others.
    """
    wanted = {score.name: score for score in scores}
    if sequence is None:
        samples = [sample for sample in dataset if sample.name in wanted]
    else:
        samples = [timed.sample for timed in sequence]
    palette = segmenter.card.palette_rgb
    shots = {
        sample.name: _shot(wanted[sample.name], *pair, labels, palette, dataset)
        for sample, pair, labels in Passing(segmenter, sequence).run(_readable(samples))
        if sample.name in wanted
    }
    return tuple(shots[name] for name in wanted if name in shots)


def _readable(samples: Iterable[Sample]) -> Iterator[tuple[Sample, Pair]]:
    for sample in samples:
        with suppress(SourceError):
            yield sample, read_pair(sample)


def _shot(
    score: ImageScore,
    image: NDArray[np.uint8],
    truth: NDArray[np.int16],
    prediction: NDArray[Any],
    palette: Sequence[Rgb],
    dataset: Dataset,
) -> Shot:
    confusion = Confusion(dataset.classes)
    confusion.add(truth, prediction)
    return Shot(
        score,
        _jpeg(image),
        _colored(truth, palette),
        _colored(prediction, palette),
        _jpeg(error_picture(image, truth, prediction)),
        tuple(
            (true, called, pixels / max(confusion.pixels, 1))
            for true, called, pixels in confusion.mistakes(3)
        ),
    )


def error_picture(
    image: NDArray[np.uint8], truth: NDArray[Any], prediction: NDArray[Any]
) -> NDArray[np.uint8]:
    """The darkened grey image with wrong pixels in magenta, nearly black where nothing counts."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.float32)
    ignored = truth == IGNORED
    dark = (grey * np.where(ignored, _DIMMEST, _DIM)).astype(np.uint8)
    picture = np.repeat(dark[:, :, None], 3, axis=2)
    picture[~ignored & (truth != prediction)] = _WRONG_BGR
    return picture


def _shape(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, _WIDEST / width)
    return round(width * scale), max(1, round(height * scale))


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    height, width = image.shape[:2]
    small = cv2.resize(image, _shape(width, height), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1])


def _colored(labels: NDArray[Any], palette: Sequence[Rgb]) -> bytes:
    """An indexed PNG; a PNG of colours where the classes are too many for one."""
    height, width = labels.shape
    nearest = cv2.INTER_NEAREST
    small = cv2.resize(labels.astype(np.int16), _shape(width, height), interpolation=nearest)
    if len(palette) < 256:
        indices = np.where(small == IGNORED, 255, small).astype(np.uint8)
        return encode_labels_png(indices, palette_rgb=palette)
    table = np.array([*palette, (0, 0, 0)], np.uint8)[:, ::-1]
    return bytes(cv2.imencode(".png", table[small])[1])  # -1 is the last entry
