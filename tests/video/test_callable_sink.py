"""A function as a sink, alone and in a pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from video_clips import FakeResult, gradient_images

from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import EndOfRun, ResultView
from segedge.pipeline.runner import Pipeline
from segedge.video.memory import MemorySink, MemorySource
from segedge.video.sinks.callable_sink import CallableSink


def segment(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
    return FakeResult(image=frame.image_hwc)


def test_it_is_called_in_order_and_told_the_end() -> None:
    seen: list[tuple[int, float]] = []
    ends: list[bool] = []
    sink = CallableSink(
        lambda frame, result: seen.append((frame.index, float(result.overlay().mean()))),
        needs={"overlay"},
        on_close=ends.append,
    )
    images = gradient_images(6)
    report = Pipeline(MemorySource(images), segment, [sink]).run()
    sink.close()
    assert seen == [(k, float(image.mean())) for k, image in enumerate(images)]
    assert ends == [False]
    assert report.written == 6
    assert sink.needs == {"overlay"}


def test_what_it_raises_ends_the_run() -> None:
    def broken(frame: Frame, result: ResultView) -> None:
        if frame.index == 3:
            raise ZeroDivisionError("mine")

    ends: list[bool] = []
    other = MemorySink()
    sinks = [CallableSink(broken, on_close=ends.append), other]
    pipeline = Pipeline(MemorySource(gradient_images(500)), segment, sinks)
    with pytest.raises(ZeroDivisionError, match="mine"):
        pipeline.run()
    assert ends == [True]
    assert other.closed_with_error is True
    assert pipeline.report is not None
    assert pipeline.report.read == pipeline.report.written + pipeline.report.failed


def test_end_of_run_is_no_error() -> None:
    def enough(frame: Frame, result: ResultView) -> None:
        if frame.index == 3:
            raise EndOfRun

    other = MemorySink()
    endless = MemorySource([np.zeros((4, 6, 3), np.uint8)] * 100_000)
    report = Pipeline(endless, segment, [CallableSink(enough), other]).run()
    assert 4 <= report.written < 1000
    assert report.failed == 0
    assert other.closed_with_error is False


def test_arguments() -> None:
    with pytest.raises(UsageError, match="cannot be called: 5"):
        CallableSink(5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no result has label"):
        CallableSink(print, needs={"label"})
