"""Sources, sinks and segmenters that a test commands; runs that are given up on if they hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.pipeline.runner import MultiPipeline, Pipeline
from segedge.pipeline.stats import RunReport
from segedge.video.memory import MemorySink, MemorySource

WAIT_SECONDS = 20.0
"""Longer than anything takes; only a hang reaches it."""


@dataclass
class FakeResult:
    """The index of its frame as labels."""

    labels: NDArray[np.uint8]
    palette_rgb: tuple[tuple[int, int, int], ...] = ((0, 0, 0),)
    classes: tuple[str, ...] = ("all",)

    def overlay(self) -> NDArray[np.uint8]:
        return np.repeat(self.labels[..., None], 3, axis=2)

    def wait(self) -> None:
        pass


def segment(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
    frame.times.add("network", 2.0)
    return FakeResult(frame.image_hwc[..., 0])


class Broken(Exception):  # noqa: N818
    """What goes wrong in these tests."""


@dataclass
class Failing:
    """A segmenter or a sink's write that fails at one frame."""

    at: int
    error: BaseException = field(default_factory=lambda: Broken("here"))

    def __call__(self, frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        if frame.index == self.at:
            raise self.error
        return segment(frame, outputs=outputs)


class Endless(MemorySource):
    """All of its images, and then none until somebody closes it."""

    def __init__(
        self, images: Sequence[NDArray[np.uint8]], *, then: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(images)
        self._then = then

    def frames(self) -> Iterator[Frame]:
        yield from super().frames()
        self._then()
        assert self._closed.wait(WAIT_SECONDS), "nobody closed the source"


class FailingSource(MemorySource):
    """Breaks after some frames."""

    after = 3

    def frames(self) -> Iterator[Frame]:
        for frame in super().frames():
            if frame.index == self.after:
                raise Broken("source")
            yield frame


class FailingSink(MemorySink):
    """Breaks at one frame, or when closed."""

    def __init__(self, at: int | None = None, *, closing: bool = False) -> None:
        super().__init__()
        self.at, self.closing = at, closing

    def write(self, frame: Frame, result: ResultView) -> None:
        if frame.index == self.at:
            raise Broken("sink")
        super().write(frame, result)

    def close(self, *, error: bool = False) -> None:
        super().close(error=error)
        if self.closing:
            raise Broken("closing")


class WaitingSink(MemorySink):
    """Takes no frame before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def write(self, frame: Frame, result: ResultView) -> None:
        assert self.may.wait(WAIT_SECONDS)
        super().write(frame, result)


def images(number: int) -> list[NDArray[np.uint8]]:
    return [np.full((2, 3, 3), k % 256, np.uint8) for k in range(number)]


def run_in_thread(pipeline: Pipeline | MultiPipeline) -> Any:
    """What the run returns or raises; given up on if it hangs."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(pipeline.run())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive(), "the pipeline hangs"
    return outcome[0]


def finished(pipeline: Pipeline) -> RunReport | BaseException:
    """As `run_in_thread`; no thread is left, and every frame is accounted for."""
    before = set(threading.enumerate())  # other tests' pools keep theirs
    outcome: RunReport | BaseException = run_in_thread(pipeline)
    new = set(threading.enumerate()) - before
    left = [t.name for t in new if t.name.startswith("segedge-")]
    assert left == [], "threads are left behind"
    assert (report := pipeline.report) is not None
    assert report.read == report.written + report.dropped + report.failed
    return outcome


def report_of(pipeline: Pipeline) -> RunReport:
    outcome = finished(pipeline)
    assert isinstance(outcome, RunReport)
    return outcome


def check_accounts(report: RunReport, sinks: int) -> None:
    """What the issue asks for: nothing vanishes, anywhere."""
    assert report.read == report.written + report.dropped + report.failed
    inbox, segmenter, *outs = report.places
    assert len(outs) == sinks
    for place in report.places:
        assert place.received == place.passed + place.dropped + place.failed, place
    assert inbox.received == report.read
    assert segmenter.received == inbox.passed
    for out in outs:
        assert out.received == segmenter.passed
