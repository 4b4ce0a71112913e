"""Several sources and slow sinks: no clock, no sleep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import EndOfRun, ResultView
from segedge.pipeline.lane import Lane
from segedge.pipeline.mailbox import Mailbox, RoundRobin
from segedge.pipeline.runner import MultiPipeline
from segedge.video.memory import MemorySink, MemorySource
from tests.pipeline.pipeline_parts import (
    WAIT_SECONDS,
    Broken,
    Endless,
    FailingSink,
    FailingSource,
    WaitingSink,
    check_accounts,
    images,
    run_in_thread,
    segment,
)


@settings(max_examples=40, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    sinks=st.integers(0, 2),
    policy=st.sampled_from(["latest", "lossless"]),
)
def test_every_frame_of_every_source_is_accounted_for(
    numbers: list[int], sinks: int, policy: Any
) -> None:
    outs = [[MemorySink() for _ in range(sinks)] for _ in numbers]
    lanes = [
        Lane(MemorySource(images(number)), own, policy=policy)
        for number, own in zip(numbers, outs, strict=True)
    ]
    reports = run_in_thread(MultiPipeline(lanes, segment))
    assert isinstance(reports, tuple)
    for report, own, number in zip(reports, outs, numbers, strict=True):
        check_accounts(report, sinks)
        assert report.read == number
        if policy == "lossless":
            assert report.written == number
        for out in own:
            seen = [entry.frame.index for entry in out.written]
            assert seen == sorted(set(seen))
            assert out.closed_with_error is False


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=5), data=st.data())
def test_turns_are_fair(sizes: list[int], data: st.DataObject) -> None:
    """While several boxes have something, none gets two turns before another had one."""
    changed = threading.Condition()
    boxes: list[Mailbox[int]] = [Mailbox(10, changed=changed) for _ in sizes]
    for box, size in zip(boxes, sizes, strict=True):
        for item in range(size):
            box.put(item)
        box.close()
    ended: list[int] = []
    left = list(sizes)
    since: dict[int, int] = dict.fromkeys(range(len(sizes)), 0)
    for number, item in RoundRobin(boxes, changed=changed, on_end=ended.append):
        assert item == sizes[number] - left[number]
        left[number] -= 1
        since[number] = 0
        for other in since:
            if other != number and left[other]:
                since[other] += 1
                assert since[other] < len(sizes), "starved"
    assert left == [0] * len(sizes)
    assert sorted(ended) == list(range(len(sizes)))


def test_a_stalled_lossless_sink_does_not_hold_up_other_sources() -> None:
    """Its own source waits; the other one ends first, or this hangs."""
    stuck = WaitingSink()

    class Opening(MemorySink):
        def close(self, *, error: bool = False) -> None:
            super().close(error=error)
            stuck.may.set()

    free = Opening()
    lanes = [
        Lane(MemorySource(images(30)), [stuck]),
        Lane(MemorySource(images(30)), [free]),
    ]
    reports = run_in_thread(MultiPipeline(lanes, segment))
    assert isinstance(reports, tuple)
    assert [report.written for report in reports] == [30, 30]


def test_with_latest_a_stalled_sink_delays_nobody_and_keeps_one_frame() -> None:
    """The other sink gets every frame while one is stuck with the first."""
    stuck = WaitingSink()
    ready = threading.Semaphore(1)

    class Quick(MemorySink):
        def write(self, frame: Frame, result: ResultView) -> None:
            super().write(frame, result)
            if frame.index == 19:
                stuck.may.set()
            ready.release()

    class Paced(MemorySource):
        """The next frame when the quick sink has had the last one."""

        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                assert ready.acquire(timeout=WAIT_SECONDS)
                yield frame

    quick = Quick()
    lane = Lane(Paced(images(20), live=True), [stuck, quick], sink_names=["viewer", "file"])
    reports = run_in_thread(MultiPipeline([lane], segment))
    assert isinstance(reports, tuple)
    (report,) = reports
    check_accounts(report, 2)
    assert [entry.frame.index for entry in quick.written] == list(range(20))
    assert stuck.written[-1].frame.index == 19  # the newest, not the oldest
    assert len(stuck.written) <= 3
    assert report.drops == {"viewer": 20 - len(stuck.written)}
    assert (report.written, report.dropped) == (20, 0)  # each was shown somewhere
    assert report.latency is not None
    assert report.latency.count == 20


@pytest.mark.parametrize("bad", ["source", "sink"])
def test_a_failed_source_does_not_end_the_others(bad: str) -> None:
    broken = FailingSink(at=1) if bad == "sink" else MemorySink()
    source = FailingSource(images(9)) if bad == "source" else MemorySource(images(9))
    good = MemorySink()
    lanes = [Lane(source, [broken]), Lane(MemorySource(images(40)), [good])]
    reports = run_in_thread(MultiPipeline(lanes, segment))
    assert isinstance(reports, tuple)
    for report in reports:
        check_accounts(report, 1)
    assert (reports[0].error, reports[0].ended_by) == (bad, "error")
    assert isinstance(lanes[0].error, Broken)
    assert broken.closed_with_error is True
    assert (reports[1].written, reports[1].error, good.closed_with_error) == (40, None, False)


def test_the_last_source_that_fails_ends_the_run_with_the_first_cause() -> None:
    first_failed = threading.Event()

    class Second(FailingSource):
        after = 0

        def frames(self) -> Iterator[Frame]:
            assert first_failed.wait(WAIT_SECONDS)
            yield from super().frames()

    class Closing(MemorySink):
        def close(self, *, error: bool = False) -> None:
            first_failed.set()

    lanes = [Lane(FailingSource(images(9)), [Closing()]), Lane(Second(images(9)), [])]
    error = run_in_thread(MultiPipeline(lanes, segment))
    assert isinstance(error, Broken)
    assert error is lanes[0].error


def test_fail_fast_ends_the_others() -> None:
    first, good = MemorySink(), MemorySink()
    lanes = [Lane(FailingSource(images(9)), [first]), Lane(Endless(images(3)), [good])]
    error = run_in_thread(MultiPipeline(lanes, segment, fail_fast=True))
    assert isinstance(error, Broken)
    assert good.closed_with_error is True
    for lane, sink in zip(lanes, (first, good), strict=True):  # what was read is written
        assert lane.report is not None
        assert lane.report.read == lane.report.written == len(sink.written)
    assert len(first.written) == FailingSource.after


def test_an_error_of_the_model_ends_all() -> None:
    outs = [MemorySink(), MemorySink()]

    def broken(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        raise Broken("network")

    lanes = [Lane(MemorySource(images(9)), [out]) for out in outs]
    error = run_in_thread(MultiPipeline(lanes, broken))
    assert isinstance(error, Broken)
    assert all(out.closed_with_error is True for out in outs)
    assert all(lane.report is not None and lane.report.failed for lane in lanes)


def test_a_sink_may_end_the_run() -> None:
    """Not an error; those on their way are still written, by this sink too."""

    class Window(MemorySink):
        def write(self, frame: Frame, result: ResultView) -> None:
            super().write(frame, result)
            if frame.index >= 4:
                raise EndOfRun

    window, other = Window(), MemorySink()
    lane = Lane(Endless(images(6)), [window, other])
    reports = run_in_thread(MultiPipeline([lane], segment))
    assert isinstance(reports, tuple)
    (report,) = reports
    check_accounts(report, 2)
    assert report.ended_by == "sink"
    assert not report.interrupted
    assert window.closed_with_error is other.closed_with_error is False
    assert [e.frame.index for e in window.written] == [e.frame.index for e in other.written]
    assert report.written == len(window.written) >= 5


def test_a_pipeline_without_sources() -> None:
    with pytest.raises(UsageError, match="without a source"):
        MultiPipeline([], segment)


@pytest.mark.parametrize("policy", ["latest", "lossless"])
def test_a_callable_that_raises_ends_the_run_and_never_hangs(policy: Any) -> None:
    """Whatever the other parts wait for: a source without end, a sink that is stalled."""
    from segedge.video.sinks.callable_sink import CallableSink

    stuck = WaitingSink()

    def refuse(frame: Frame, result: ResultView) -> None:
        raise Broken("callable")

    told: list[bool] = []
    sink = CallableSink(refuse, on_close=lambda error: (told.append(error), stuck.may.set()))
    lane = Lane(Endless(images(5)), [stuck, sink], policy=policy)
    error = run_in_thread(MultiPipeline([lane], segment))
    assert isinstance(error, Broken)
    assert told == [True]
    assert stuck.closed_with_error is True
    assert lane.report is not None
    check_accounts(lane.report, 2)
    assert lane.report.ended_by == "error"
