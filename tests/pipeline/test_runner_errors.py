"""An error anywhere ends the run once, closes every sink, and what was read before it is written.

No test sleeps or looks at a clock: events force the order of things.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator

import pytest

from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.pipeline.runner import Pipeline
from segedge.pipeline.stats import Progress
from segedge.video.memory import MemorySink, MemorySource
from tests.pipeline.pipeline_parts import (
    WAIT_SECONDS,
    Broken,
    Endless,
    Failing,
    FailingSink,
    FailingSource,
    WaitingSink,
    finished,
    images,
    segment,
)


@pytest.mark.parametrize("sinks", [1, 3])
def test_an_error_in_the_source_ends_everything_once(sinks: int) -> None:
    outs = [MemorySink() for _ in range(sinks)]
    source = FailingSource(images(10))
    error = finished(Pipeline(source, segment, outs))
    assert isinstance(error, Broken)
    assert any(entry.name == "frames" for entry in traceback.extract_tb(error.__traceback__))
    assert all(out.closed_with_error is True for out in outs)


@pytest.mark.parametrize("after", [0, 1, 9])
@pytest.mark.parametrize("sinks", [0, 1, 2])
def test_what_was_read_before_the_source_failed_is_written(after: int, sinks: int) -> None:
    """The last frames are not computed before it has failed: they wait in their box."""
    failed = threading.Event()

    class Source(FailingSource):
        def frames(self) -> Iterator[Frame]:
            self.after = after
            try:
                yield from super().frames()
            finally:
                failed.set()

    def late(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        if frame.index + 3 >= after:
            assert failed.wait(WAIT_SECONDS)
        return segment(frame, outputs=outputs)

    outs = [MemorySink() for _ in range(sinks)]
    pipeline = Pipeline(Source(images(20)), late, outs)
    assert str(finished(pipeline)) == "source"
    report = pipeline.report
    assert report is not None
    assert (report.read, report.written, report.failed) == (after, after, 0)
    assert (report.ended_by, report.error) == ("error", "source")
    for out in outs:
        assert [entry.frame.index for entry in out.written] == list(range(after))
        assert out.closed_with_error is True


def test_of_a_live_source_that_is_lost_the_newest_frame_is_shown() -> None:
    failed = threading.Event()

    class Lost(FailingSource):
        def frames(self) -> Iterator[Frame]:
            try:
                yield from super().frames()
            finally:
                failed.set()

    def slow(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        assert failed.wait(WAIT_SECONDS)
        return segment(frame, outputs=outputs)

    sink = MemorySink()
    pipeline = Pipeline(Lost(images(9), live=True), slow, [sink])
    assert str(finished(pipeline)) == "source"
    assert sink.written[-1].frame.index == FailingSource.after - 1


def test_what_was_computed_before_an_error_goes_to_the_sinks_that_work() -> None:
    """A sink fails at its first frame, the network at a later one: the other sink gets what was."""
    stuck = WaitingSink()
    computed: list[int] = []

    class Bad(FailingSink):
        def close(self, *, error: bool = False) -> None:
            super().close(error=error)
            stuck.may.set()

    def compute(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        computed.append(frame.index)
        if frame.index == 3 and bad is None:
            stuck.may.set()
            raise Broken("network")
        return segment(frame, outputs=outputs)

    bad: Bad | None = None
    assert str(finished(Pipeline(MemorySource(images(9)), compute, [stuck]))) == "network"
    assert [entry.frame.index for entry in stuck.written] == [0, 1, 2]
    assert stuck.closed_with_error is True

    stuck, bad = WaitingSink(), Bad(at=2)
    assert str(finished(Pipeline(MemorySource(images(99)), segment, [stuck, bad]))) == "sink"
    assert [entry.frame.index for entry in stuck.written] == list(range(len(stuck.written)))
    assert len(stuck.written) >= 3, "what the sink that failed had, the other one has"
    assert stuck.closed_with_error is True


def test_an_error_in_the_segmenter_ends_everything_once() -> None:
    outs = [MemorySink(), MemorySink()]
    pipeline = Pipeline(MemorySource(images(100)), Failing(at=5), outs)
    error = finished(pipeline)
    assert isinstance(error, Broken)
    assert error.__traceback__ is not None
    assert pipeline.report is not None
    assert pipeline.report.failed >= 1
    assert pipeline.report.written <= 5
    assert all(out.closed_with_error is True for out in outs)


@pytest.mark.parametrize("at", [0, 7])
def test_an_error_in_a_sink_ends_everything_once(at: int) -> None:
    bad, good = FailingSink(at), MemorySink()
    pipeline = Pipeline(MemorySource(images(100)), segment, [bad, good])
    assert isinstance(finished(pipeline), Broken)
    assert pipeline.report is not None
    assert pipeline.report.written <= at == len(bad.written)
    assert bad.closed_with_error is True
    assert good.closed_with_error is True
    assert len(good.written) < 100


def test_an_error_in_a_sink_wakes_a_source_that_waits() -> None:
    """The other sink never moves: only closing its mailbox can end the run."""
    stuck = WaitingSink()

    class Bad(FailingSink):
        def write(self, frame: Frame, result: ResultView) -> None:
            stuck.may.set()
            super().write(frame, result)

    assert isinstance(
        finished(Pipeline(MemorySource(images(100)), segment, [stuck, Bad(at=0)])), Broken
    )


def test_an_error_while_closing_a_sink_is_reported() -> None:
    pipeline = Pipeline(MemorySource(images(3)), segment, [FailingSink(closing=True)])
    error = finished(pipeline)
    assert isinstance(error, Broken)
    assert str(error) == "closing"


def test_only_the_first_error_counts() -> None:
    pipeline = Pipeline(
        MemorySource(images(9)), Failing(at=2), [FailingSink(closing=True), MemorySink()]
    )
    error = finished(pipeline)
    assert isinstance(error, Broken)
    assert str(error) == "here"


def test_a_callback_that_raises_ends_the_run() -> None:
    def refuse(progress: Progress) -> None:
        raise Broken("callback")

    sink = MemorySink()
    pipeline = Pipeline(MemorySource(images(50)), segment, [sink], on_progress=refuse)
    assert str(finished(pipeline)) == "callback"
    assert sink.closed_with_error is True


def test_an_error_ends_a_source_that_would_wait_forever() -> None:
    assert isinstance(finished(Pipeline(Endless(images(2)), Failing(1), [MemorySink()])), Broken)
