"""What is measured at its peak: frames through the pipeline, from memory or from a video."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, Sink, Source, SourceFailure, SourceInfo
from segedge.measure.bench.worker.trace import (
    GpuClock,
    Recorder,
    TracedSegmenter,
    TracedSink,
    TracedSource,
)
from segedge.pipeline.feed import FrameSegmenter
from segedge.pipeline.runner import Pipeline
from segedge.pipeline.stats import Progress, RunReport
from segedge.video.memory import MemorySource

_HALVES_WITHIN = 0.10


class RepeatedSource:
    """One source or image again and again, until enough frames have been taken for long enough."""

    def __init__(
        self,
        open_frames: Callable[[], Source] | NDArray[np.uint8],
        *,
        is_enough: Callable[[int], bool],
        fps: float = 30.0,
    ) -> None:
        """Of an image, or of what opens a source anew; ``fps`` is for frames without times."""
        self._image = None if callable(open_frames) else open_frames
        self._open = open_frames if callable(open_frames) else None
        self._source = self._open() if self._open else None
        self._is_enough, self._closed = is_enough, False
        given = self._source.info if self._source else None
        size = given.size if given else cast("tuple[int, int]", self._image.shape[:2])  # type: ignore[union-attr]
        self._fps = (given.fps if given else None) or fps
        self.info = SourceInfo(given.name if given else "memory", "video", size, self._fps)
        self.failures: Sequence[SourceFailure] = ()

    def frames(self) -> Iterator[Frame]:
        """Frames numbered on, their times as if they were one recording."""
        index = 0
        while True:
            for frame in self._once():
                if self._closed or self._is_enough(index):
                    return
                frame.index, frame.pts_seconds = index, index / self._fps
                yield frame
                index += 1

    def _once(self) -> Iterator[Frame]:
        if self._image is not None:
            while True:
                yield Frame(self._image)
        assert self._open is not None
        source = self._source or self._open()
        self._source = None
        seen = False
        try:
            for frame in source.frames():
                seen = True
                yield frame
        finally:
            source.close()
        if not seen:
            raise SourceError(f"{self.info.name} has no frames")

    def close(self) -> None:
        """End a running iteration."""
        self._closed = True


class Stamps:
    """A sink that notes when each frame was done; what another one makes of it, it hands on."""

    def __init__(
        self, sink: Sink | None = None, clock_ns: Callable[[], int] = time.perf_counter_ns
    ):
        """Wrap a sink; None is one that only looks at the overlay."""
        self._sink, self._clock_ns = sink, clock_ns
        self.needs = sink.needs if sink else frozenset({"overlay"})
        self.done_ns: list[int] = []
        self._is_closed = False

    @property
    def paths(self) -> Sequence[Path]:
        """What the sink made."""
        return self._sink.paths if self._sink else ()

    @property
    def notes(self) -> Sequence[str]:
        """What it wants to be known."""
        return self._sink.notes if self._sink else ()

    def write(self, frame: Frame, result: ResultView) -> None:
        """Look, or hand on, and note the time."""
        check_takes(not self._is_closed, "the sink with a clock")
        if self._sink:
            self._sink.write(frame, result)
        else:
            result.overlay()
        self.done_ns.append(self._clock_ns())

    def close(self, *, error: bool = False) -> None:
        """Close it."""
        self._is_closed = True
        if self._sink:
            self._sink.close(error=error)


@dataclass(frozen=True)
class Flow:
    """A run of a pipeline at its peak."""

    intervals_ms: list[float]
    """Between one frame that was done and the one before it, after the warm-up; of several taken
    together the mean."""
    is_steady: bool
    """Whether both halves have the same median, within a tenth."""
    report: RunReport


@dataclass(frozen=True)
class FlowOptions:
    """How long a pipeline runs, and through what."""

    seconds: float
    at_least: int = 10
    """Frames after the warm-up."""
    video: Path | None = None
    """Decoded, overlaid and encoded again; None takes the same image from memory."""
    recorder: Recorder | None = None
    """Where a timeline is written."""
    pictures: Sequence[NDArray[np.uint8]] = ()
    """Taken in turn instead of the same image."""
    together: int = 1
    """Frames whose times are taken together: those from one key frame to the next."""


def flow(
    segmenter: Any,
    image_hwc: NDArray[np.uint8],
    options: FlowOptions,
    *,
    folder: Path,
    on_frame: Callable[[], object] = lambda: None,
) -> Flow:
    """Frames through `segedge.pipeline` as fast as they go.

    The first third of the time, five frames at least, is warm-up and does not count. An encoded
    video lies in the folder meanwhile; ``on_frame`` is called in the segmenter's thread.
    """
    start_ns = time.perf_counter_ns()
    end_ns, warm = start_ns + round(1.5e9 * options.seconds), 5
    at_least = options.at_least * options.together

    def is_enough(count: int) -> bool:
        return count > warm + 2 * at_least and time.perf_counter_ns() >= end_ns

    source, sink = _ends(image_hwc, options, folder, is_enough)
    stamps = Stamps(sink)
    report = _run(segmenter, source, stamps, options.recorder, on_frame)
    counted_ns = start_ns + round(0.5e9 * options.seconds)
    done = [at for n, at in enumerate(stamps.done_ns) if n >= warm and at >= counted_ns]
    if len(done) <= at_least:
        done = stamps.done_ns[warm:]
    steps = pairwise(done[:: options.together])
    intervals = [(b - a) / 1e6 / options.together for a, b in steps]
    middle = len(intervals) // 2
    first, second = (statistics.median(h) for h in (intervals[:middle], intervals[middle:]))
    return Flow(intervals, abs(first - second) <= _HALVES_WITHIN * max(first, second), report)


def _ends(
    image_hwc: NDArray[np.uint8], options: FlowOptions, folder: Path,
    is_enough: Callable[[int], bool],
) -> tuple[Source, Sink | None]:  # fmt: skip
    if options.pictures:
        pictures = options.pictures
        return RepeatedSource(lambda: MemorySource(pictures), is_enough=is_enough), None
    if options.video is None:
        return RepeatedSource(image_hwc, is_enough=is_enough), None
    # Here: PyAV is needed for videos only.
    from segedge.video.sinks.open import SinkOptions, open_sink
    from segedge.video.sources.open import open_source

    path = options.video
    source = RepeatedSource(lambda: open_source(path), is_enough=is_enough)
    return source, open_sink(
        folder / "overlay.mp4", info=source.info, options=SinkOptions(audio=False)
    )


def _run(
    segmenter: Any, source: Source, sink: Sink, recorder: Recorder | None,
    on_frame: Callable[[], object],
) -> RunReport:  # fmt: skip
    compute: FrameSegmenter = segmenter
    if recorder is not None:
        is_device = segmenter.backend.memory == "cuda"
        clock = GpuClock(segmenter.backend.device, recorder.clock_ns) if is_device else None
        source = TracedSource(source, recorder)
        compute = TracedSegmenter(segmenter, recorder)
        sink = TracedSink(sink, recorder, clock)

    def tell(progress: Progress) -> None:
        on_frame()

    return Pipeline(source, compute, [sink], on_progress=tell).run()
