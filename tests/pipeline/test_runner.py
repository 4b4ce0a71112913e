"""The pipeline: in order, overlapped, every frame accounted for, and it always ends.

No test sleeps or looks at a clock: events force the order of things, and a run that would hang
fails in `run_in_thread`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, SourceFailure
from segedge.pipeline.runner import Pipeline
from segedge.pipeline.stats import Progress
from segedge.video.memory import MemorySink, MemorySource
from tests.pipeline.pipeline_parts import (
    WAIT_SECONDS,
    FakeResult,
    WaitingSink,
    images,
    report_of,
    segment,
)


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
