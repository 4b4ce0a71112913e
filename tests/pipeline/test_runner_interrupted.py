"""Ctrl-C, SIGTERM and `stop`: the files are finished, and a second Ctrl-C leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.pipeline.runner import Pipeline
from segedge.video.memory import MemorySink, MemorySource
from tests.pipeline.pipeline_parts import (
    WAIT_SECONDS,
    Endless,
    Failing,
    WaitingSink,
    images,
    report_of,
    segment,
)


@pytest.mark.parametrize("at", [0, 4])
def test_interrupt_while_computing_finishes_the_files(at: int) -> None:
    """What was computed before Ctrl-C is written, and the sinks are closed as whole."""
    sinks = [MemorySink(), MemorySink()]
    source = MemorySource(images(100))
    report = report_of(Pipeline(source, Failing(at, KeyboardInterrupt()), sinks))
    assert report.interrupted
    assert report.failed == 0
    assert report.written == at
    assert report.dropped == report.read - at
    for sink in sinks:
        assert [entry.frame.index for entry in sink.written] == list(range(at))
        assert sink.closed_with_error is False


def test_interrupt_while_waiting_for_the_sinks() -> None:
    """A real SIGINT, in the main thread, when all is computed and a sink still writes."""
    sink = WaitingSink()
    computed = count()

    def compute(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        next(computed)
        return segment(frame, outputs=outputs)

    def poke() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        sink.may.set()

    class Source(MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            threading.Thread(target=poke).start()

    main = threading.main_thread().ident
    assert main is not None
    report = Pipeline(Source(images(2)), compute, [sink]).run()
    assert report.interrupted
    assert report.read == report.written + report.dropped
    assert sink.closed_with_error is False


def test_a_second_interrupt_leaves_at_once() -> None:
    """Nobody waits for a sink that is stuck; Ctrl-C works as ever afterwards."""
    sink = WaitingSink()
    others = set(threading.enumerate())

    def interrupt(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return segment(frame, outputs=outputs)

    with pytest.raises(KeyboardInterrupt):
        Pipeline(MemorySource(images(9)), interrupt, [sink]).run()
    sink.may.set()
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("segedge-"):
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()
    assert sink.closed_with_error is True
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_foreign_signal_handler_is_left_alone() -> None:
    called: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: called.append(number))
    try:

        def interrupt(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
            if frame.index == 1:
                signal.raise_signal(signal.SIGINT)
            return segment(frame, outputs=outputs)

        report = Pipeline(MemorySource(images(3)), interrupt, [MemorySink()]).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert called == [signal.SIGINT]
    assert not report.interrupted
    assert report.written == 3


@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_real_interrupt_in_the_main_thread(at: int) -> None:
    def interrupt(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        if frame.index == at:
            signal.raise_signal(signal.SIGINT)
        return segment(frame, outputs=outputs)

    sink = MemorySink()
    report = Pipeline(MemorySource(images(100)), interrupt, [sink]).run()
    assert report.interrupted
    assert report.written == len(sink.written) == at + 1  # the frame in hand is finished
    assert report.read == report.written + report.dropped
    assert sink.closed_with_error is False


def test_interrupt_ends_a_source_that_would_wait_forever() -> None:
    """`Source.close` from another thread is what ends a blocked read."""

    pipeline = Pipeline(Endless(images(2)), Failing(1, KeyboardInterrupt()), [MemorySink()])
    assert report_of(pipeline).interrupted


def test_stop_from_another_thread() -> None:
    sink = MemorySink()
    source = Endless(images(3), then=lambda: threading.Thread(target=pipeline.stop).start())
    pipeline = Pipeline(source, segment, [sink])
    report = pipeline.run()
    assert report.ended_by == "stop"
    assert report.failed == 0
    assert sink.closed_with_error is False


def test_sigterm_finishes_the_files() -> None:
    def terminate(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        if frame.index == 3:
            signal.raise_signal(signal.SIGTERM)
        return segment(frame, outputs=outputs)

    sink = MemorySink()
    report = Pipeline(MemorySource(images(100)), terminate, [sink]).run()
    assert report.interrupted
    assert report.ended_by == "SIGTERM"
    assert report.written == 4
    assert sink.closed_with_error is False
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
