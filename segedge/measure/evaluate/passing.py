"""A data set's images through a segmenter, in order: one by one, or as the frames of a video."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.measure.datasets.datasets import Sample
from segedge.measure.datasets.sequence import TimedSample
from segedge.pipeline.feed import Feed, FrameSegmenter
from segedge.pipeline.ledger import Job

if TYPE_CHECKING:
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

Pair = tuple[NDArray[np.uint8], NDArray[np.int16]]
"""An image and its labels."""


def read_pair(sample: Sample) -> Pair:
    """An image and its labels, of one size."""
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


class Passing:
    """The images of one data set on their way; `run` once."""

    def __init__(
        self,
        segmenter: Segmenter | CudaSegmenter,
        sequence: Sequence[TimedSample] | None,
    ) -> None:
        """Begin; the images of a sequence have motion, where the segmenter has some."""
        compute = cast("FrameSegmenter", segmenter)
        is_sequence = sequence is not None
        self._feed = Feed(compute, frozenset({"labels"}), live=False, is_sequence=is_sequence)
        self._seconds = {timed.sample.name: timed.seconds for timed in sequence or ()}

    @property
    def motion(self) -> dict[str, Any] | None:
        """What motion amounted to; see `MotionSummary.to_dict`. None without."""
        return None if self._feed.motion is None else self._feed.motion.to_dict()

    def run(
        self, pairs: Iterable[tuple[Sample, Pair]]
    ) -> Iterator[tuple[Sample, Pair, NDArray[Any]]]:
        """Each image with its labels by the segmenter, in order."""
        waiting: deque[tuple[Sample, Pair]] = deque()
        try:
            for sample, pair in pairs:
                waiting.append((sample, pair))
                seconds = self._seconds.get(sample.name)
                job = Job(Frame(pair[0], pts_seconds=seconds, stream=None))
                for _, result in self._feed.push(job):
                    yield *waiting.popleft(), np.asarray(result.labels)
            for _, result in self._feed.end():
                yield *waiting.popleft(), np.asarray(result.labels)
        finally:
            self._feed.close()
