"""The pipeline: in order, overlapped, every frame accounted for, and it always ends.

No test sleeps or looks at a clock: events force the order of things, and a run that would hang
fails in `finished`.
"""

from __future__ import annotations

import json
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, SourceFailure
from segedge.pipeline.runner import Pipeline
from segedge.pipeline.stats import Progress, RunReport
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


def finished(pipeline: Pipeline) -> RunReport | BaseException:
    """Run in a thread that is given up on if it hangs."""
    outcome: list[RunReport | BaseException] = []

    def run() -> None:
        try:
            outcome.append(pipeline.run())
        except BaseException as error:
            outcome.append(error)

    before = set(threading.enumerate())  # other tests' pools keep theirs
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive(), "the pipeline hangs"
    new = set(threading.enumerate()) - before
    left = [t.name for t in new if t.name.startswith("segedge-")]
    assert left == [], "threads are left behind"
    assert pipeline.report is not None
    report = pipeline.report
    assert report.read == report.written + report.dropped + report.failed
    return outcome[0]


def report_of(pipeline: Pipeline) -> RunReport:
    outcome = finished(pipeline)
    assert isinstance(outcome, RunReport)
    return outcome


@settings(max_examples=30, deadline=None)
@given(number=st.integers(0, 40), sinks=st.integers(0, 3))
def test_lossless_runs_write_everything_in_order(number: int, sinks: int) -> None:
    outs = [MemorySink() for _ in range(sinks)]
    report = report_of(Pipeline(MemorySource(images(number)), segment, outs))
    assert (report.read, report.written, report.dropped, report.failed) == (number, number, 0, 0)
    for out in outs:
        assert [entry.frame.index for entry in out.written] == list(range(number))
        assert [entry.result.labels[0, 0] for entry in out.written] == list(range(number))
        assert out.closed_with_error is False
    assert not report.interrupted


def test_outputs_are_what_the_sinks_need_together() -> None:
    asked: set[frozenset[str]] = set()

    def spy(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        asked.add(outputs)
        return segment(frame, outputs=outputs)

    sinks = [MemorySink(needs=frozenset(n)) for n in ({"labels"}, {"overlay", "labels"}, set())]
    report_of(Pipeline(MemorySource(images(2)), spy, sinks))
    assert asked == {frozenset({"labels", "overlay"})}


def test_reading_computing_and_writing_overlap() -> None:
    """The first frame may be written only when later ones are computed: else it hangs."""
    computed: list[int] = []
    sink = WaitingSink()

    def spy(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        computed.append(frame.index)
        if frame.index == 3:
            sink.may.set()
        return segment(frame, outputs=outputs)

    report = report_of(Pipeline(MemorySource(images(10)), spy, [sink]))
    assert report.written == 10


def test_the_queues_are_bounded() -> None:
    """A stalled sink holds back the source: no more than the mailboxes hold is read ahead."""
    sink = WaitingSink()
    most_ahead = 0

    class Counting(MemorySource):
        def frames(self) -> Iterator[Frame]:
            nonlocal most_ahead
            for frame in super().frames():
                most_ahead = max(most_ahead, frame.index - len(sink.written))
                if frame.index == 7:
                    sink.may.set()  # 3 + 3 waiting, one in the hands of source and sink each
                yield frame

    assert report_of(Pipeline(Counting(images(60)), segment, [sink])).written == 60
    assert 7 <= most_ahead <= 9


def test_latest_drops_the_oldest_and_counts_it() -> None:
    """A live source gives 50 frames while the first is computed: one more is seen, the newest."""
    all_read = threading.Event()

    class Live(MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            all_read.set()

    def slow(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        assert all_read.wait(WAIT_SECONDS)
        return segment(frame, outputs=outputs)

    sink = MemorySink()
    report = report_of(Pipeline(Live(images(50), live=True), slow, [sink]))
    seen = [entry.frame.index for entry in sink.written]
    assert seen[-1] == 49
    assert len(seen) <= 2
    assert (report.read, report.written, report.dropped) == (50, len(seen), 50 - len(seen))
    assert report.failed == 0


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

    class Endless(MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            assert self._closed.wait(WAIT_SECONDS), "nobody closed the source"

    pipeline = Pipeline(Endless(images(2)), Failing(1, KeyboardInterrupt()), [MemorySink()])
    assert report_of(pipeline).interrupted


def test_an_error_ends_a_source_that_would_wait_forever() -> None:
    class Endless(MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            assert self._closed.wait(WAIT_SECONDS), "nobody closed the source"

    assert isinstance(finished(Pipeline(Endless(images(2)), Failing(1), [MemorySink()])), Broken)


def test_statistics() -> None:
    """Stages of all threads end up on the frame, each once; the clock is ours."""

    class Encoding(MemorySink):
        def write(self, frame: Frame, result: ResultView) -> None:
            assert frame.times.milliseconds == {"decode": 1.0, "network": 2.0}
            frame.times.add("encode", 4.0)
            super().write(frame, result)

    class Decoding(MemorySource):
        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                frame.times.add("decode", 1.0)
                frame.captured_ns = 0
                yield frame

    clock = count(0, 1_000_000)
    pipeline = Pipeline(
        Decoding(images(8)), segment, [Encoding(), Encoding()], clock_ns=lambda: next(clock)
    )
    report = report_of(pipeline)
    assert list(report.stages) == ["decode", "network", "encode"]
    assert {name: s.mean_ms for name, s in report.stages.items()} == {
        "decode": 1.0,
        "network": 2.0,
        "encode": 8.0,  # two sinks
    }
    assert all(summary.count == 8 for summary in report.stages.values())
    assert report.compute is not None
    assert report.latency is not None
    assert report.latency.count == report.compute.count == 8
    assert report.latency.max_ms > report.latency.p50_ms > 0
    assert report.first_frame_seconds is not None
    assert 0 < report.first_frame_seconds < report.seconds
    assert report.fps == pytest.approx(8 / report.seconds)


def test_progress() -> None:
    seen: list[Progress] = []
    report_of(Pipeline(MemorySource(images(5)), segment, [MemorySink()], on_progress=seen.append))
    assert len(seen) == 6
    assert seen[-1].written == seen[-1].read == seen[-1].expected == 5
    assert [p.written for p in seen] == sorted(p.written for p in seen)


def test_report_as_json() -> None:
    class Noting(MemorySink):
        def close(self, *, error: bool = False) -> None:
            self.notes = ("a note",)

    source = MemorySource(images(3))
    source.failures = (SourceFailure("x.png", "empty file"),)
    report = report_of(Pipeline(source, segment, [Noting()]))
    values = json.loads(json.dumps(report.to_dict()))
    assert values["written"] == 3
    assert values["failures"] == [{"name": "x.png", "reason": "empty file", "cut": False}]
    assert values["notes"] == ["a note"]
    assert values["paths"] == []
    assert values["stages"]["network"]["p50_ms"] == pytest.approx(2.0, rel=0.01)


def test_results_are_not_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of written frames go back to their pool while the run goes on."""
    alive: list[Callable[[], object]] = []
    import weakref

    class Forgetful(MemorySink):
        def write(self, frame: Frame, result: ResultView) -> None:
            alive.append(weakref.ref(result))

    most = 0

    def compute(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in tuple(alive)))
        return segment(frame, outputs=outputs)

    report_of(Pipeline(MemorySource(images(200)), compute, [Forgetful()]))
    assert most <= 6


def test_misuse() -> None:
    pipeline = Pipeline(MemorySource(images(1)), segment, [])
    pipeline.run()
    with pytest.raises(UsageError, match="runs once"):
        pipeline.run()
    with pytest.raises(UsageError, match="no policy 'newest'"):
        Pipeline(MemorySource(images(1)), segment, [], policy="newest")  # type: ignore[arg-type]


def test_results_that_are_computed_later_are_waited_for() -> None:
    """As a GPU's: the call returns at once, the time comes with `wait`, in the sink's thread."""

    class Later(FakeResult):
        def __init__(self, frame: Frame) -> None:
            super().__init__(frame.image_hwc[..., 0])
            self.frame = frame

        def wait(self) -> None:
            self.frame.times.add("gpu", 7.0)

    for sinks in ([], [MemorySink()]):
        source = MemorySource(images(3))
        report = Pipeline(source, lambda frame, *, outputs: Later(frame), sinks).run()
        assert report.stages["gpu"].p50_ms == pytest.approx(7.0, rel=0.05)
        assert report.compute is not None
        assert report.compute.p50_ms == pytest.approx(7.0, rel=0.05)
