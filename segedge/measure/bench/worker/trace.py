"""A timeline of threads, stages and GPU work, in Chrome's trace format.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Open a
file in ui.perfetto.dev or chrome://tracing.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, Sink, Source, SourceFailure, SourceInfo
from segedge.frames.timing import StageTimes
from segedge.frames.wrapped import WrappedSink
from segedge.pipeline.feed import FrameSegmenter

_PROCESS, _GPU = 1, 2
_PROCESS_NAMES = {_PROCESS: "segedge", _GPU: "GPU"}


@dataclass(frozen=True)
class Span:
    """Something that took time."""

    name: str
    start_ns: int
    end_ns: int
    frame: int
    """Index of the frame in its source."""
    process: int
    thread: int


class Recorder:
    """Collects spans. Safe from several threads."""

    def __init__(self, *, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        """Start empty."""
        self.clock_ns = clock_ns
        self.spans: list[Span] = []
        self.threads: dict[tuple[int, int], str] = {}
        self._lock = threading.Lock()

    def add(self, name: str, start_ns: int, end_ns: int, frame: int) -> None:
        """A span of the calling thread."""
        thread = threading.current_thread()
        number = threading.get_native_id()
        with self._lock:
            is_main = thread is threading.main_thread()
            title = "segmenter" if is_main else thread.name.removeprefix("segedge-")
            self.threads.setdefault((_PROCESS, number), title)
            self.spans.append(Span(name, start_ns, end_ns, frame, _PROCESS, number))

    def add_gpu(self, name: str, start_ns: int, end_ns: int, frame: int, lane: int) -> None:
        """A span of the GPU; frames in flight at once lie in lanes of their own."""
        with self._lock:
            numbers = {n: k for k, (p, n) in enumerate(self.threads) if p == _GPU}
            self.threads.setdefault((_GPU, lane), f"slot {len(numbers)}")
            self.spans.append(Span(name, start_ns, end_ns, frame, _GPU, lane))

    @contextmanager
    def measure(self, name: str, frame: int) -> Iterator[None]:
        """The body of a ``with`` statement as a span."""
        start_ns = self.clock_ns()
        try:
            yield
        finally:
            self.add(name, start_ns, self.clock_ns(), frame)

    def document(self) -> dict[str, Any]:
        """The trace; a frame's spans in different threads are joined by arrows."""
        first_ns = min((span.start_ns for span in self.spans), default=0)
        events = self._names()
        for span in sorted(self.spans, key=lambda span: (span.start_ns, -span.end_ns)):
            events.append(
                {
                    "name": span.name, "cat": "stage", "ph": "X", "pid": span.process,
                    "tid": span.thread, "ts": (span.start_ns - first_ns) / 1e3,
                    "dur": max(0, span.end_ns - span.start_ns) / 1e3,
                    "args": {"frame": span.frame},
                }
            )  # fmt: skip
        return {"traceEvents": events + self._arrows(first_ns), "displayTimeUnit": "ms"}

    def _names(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = [
            _named("process_name", process, 0, _PROCESS_NAMES[process])
            for process in sorted({process for process, _ in self.threads})
        ]
        for order, ((process, thread), title) in enumerate(self.threads.items()):
            events.append(_named("thread_name", process, thread, title))
            sort = {"sort_index": order}
            events.append({**_named("thread_sort_index", process, thread, ""), "args": sort})
        return events

    def _arrows(self, first_ns: int) -> list[dict[str, Any]]:
        """From a frame's outermost span in one thread to that in the next."""
        outer: dict[int, dict[tuple[int, int], Span]] = {}
        for span in sorted(self.spans, key=lambda span: (span.start_ns, -span.end_ns)):
            outer.setdefault(span.frame, {}).setdefault((span.process, span.thread), span)
        events = []
        for frame, by_thread in outer.items():
            spans = [span for span in by_thread.values() if span.process == _PROCESS]
            for n, span in enumerate(spans if len(spans) > 1 else []):
                phase = "s" if n == 0 else "f" if n == len(spans) - 1 else "t"
                # The arrow's end binds to the slice that encloses its time.
                events.append(
                    {
                        "name": "frame", "cat": "frame", "ph": phase, "id": frame,
                        "pid": span.process, "tid": span.thread, "bp": "e",
                        "ts": (span.start_ns - first_ns) / 1e3,
                    }
                )  # fmt: skip
        return events


def _named(kind: str, process: int, thread: int, title: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": title}}


class TracedTimes(StageTimes):
    """Stage times that are spans, too."""

    def __init__(self, recorder: Recorder, frame: int, milliseconds: dict[str, float]) -> None:
        """Share a dict of times: what is added here is added there."""
        super().__init__(milliseconds)
        self._recorder, self._frame = recorder, frame

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time the body as this stage."""
        with self._recorder.measure(stage, self._frame), super().measure(stage):
            yield


class TracedSource:
    """A source whose reading is recorded, and whose frames record what is done with them."""

    def __init__(self, source: Source, recorder: Recorder) -> None:
        """Wrap one."""
        self._source, self._recorder = source, recorder
        self.info: SourceInfo = source.info

    @property
    def failures(self) -> Sequence[SourceFailure]:
        """Those of the source."""
        return self._source.failures

    def frames(self) -> Iterator[Frame]:
        """Its frames."""
        clock_ns, frames = self._recorder.clock_ns, self._source.frames()
        start_ns = clock_ns()
        for frame in frames:
            self._recorder.add("decode", start_ns, clock_ns(), frame.index)
            times = TracedTimes(self._recorder, frame.index, frame.times.milliseconds)
            yield dataclasses.replace(frame, times=times)
            start_ns = clock_ns()

    def close(self) -> None:
        """Close it."""
        self._source.close()


class TracedSegmenter:
    """A segmenter whose calls are recorded."""

    def __init__(self, segmenter: FrameSegmenter, recorder: Recorder) -> None:
        """Wrap one."""
        self._segmenter, self._recorder = segmenter, recorder

    def __call__(self, frame: Frame, /, *, outputs: frozenset[str]) -> ResultView:
        """Segment one frame."""
        with self._recorder.measure("compute", frame.index):
            return self._segmenter(frame, outputs=outputs)


class TracedSink(WrappedSink):
    """A sink whose writing is recorded, and with it what the GPU did for the frame."""

    def __init__(self, sink: Sink, recorder: Recorder, gpu: GpuClock | None = None) -> None:
        """Wrap one; ``gpu`` knows when the GPU's events were."""
        super().__init__(sink)
        self._recorder, self._gpu = recorder, gpu

    def write(self, frame: Frame, result: ResultView) -> None:
        """Write one frame."""
        if self._gpu is not None:
            self._gpu.record(self._recorder, frame.index, result)
        times = TracedTimes(self._recorder, frame.index, frame.times.milliseconds)
        with self._recorder.measure("write", frame.index):
            self._sink.write(dataclasses.replace(frame, times=times), result)


class GpuClock:
    """Puts times of CUDA events onto the CPU's clock."""

    def __init__(self, device: Any, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        """Note one moment on both clocks: a `cuda.runtime.device.Device`'s and the recorder's."""
        self._event, stream = device.event(), device.stream()
        stream.record(self._event)
        self._event.sync()
        self._moment_ns = clock_ns()

    def record(self, recorder: Recorder, frame: int, result: Any) -> None:
        """The GPU's work for a result that is done."""
        slot = result.drawing.slot
        for stage, start_ms, end_ms in slot.spans_ms(self._event):
            start, end = (round(self._moment_ns + 1e6 * ms) for ms in (start_ms, end_ms))
            recorder.add_gpu(stage, start, end, frame, id(slot))
