"""Several sources, slow sinks, samples and signals: no clock, no sleep."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import EndOfRun, ResultView, SourceFailure
from segedge.pipeline.gpu_meter import GpuMeter
from segedge.pipeline.lane import Lane
from segedge.pipeline.limits import LimitedSource
from segedge.pipeline.machine import Machine
from segedge.pipeline.mailbox import Mailbox, RoundRobin
from segedge.pipeline.runner import MultiPipeline, Pipeline, Watch
from segedge.pipeline.stats import RunReport
from segedge.video.memory import MemorySink, MemorySource
from tests.pipeline.test_runner import (
    WAIT_SECONDS,
    Broken,
    FailingSink,
    FailingSource,
    WaitingSink,
    images,
    segment,
)


def run_in_thread(pipeline: MultiPipeline) -> tuple[RunReport, ...] | BaseException:
    """Give up on it if it hangs."""
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
    class Endless(MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            assert self._closed.wait(WAIT_SECONDS), "nobody closed the source"

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

    class Endless(MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            assert self._closed.wait(WAIT_SECONDS), "nobody closed the source"

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


def test_stop_from_another_thread() -> None:
    class Endless(MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            threading.Thread(target=pipeline.stop).start()
            assert self._closed.wait(WAIT_SECONDS), "nobody closed the source"

    sink = MemorySink()
    pipeline = Pipeline(Endless(images(3)), segment, [sink])
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


class Bell:
    """A ticker that ticks when told."""

    def __init__(self) -> None:
        self.ticks = threading.Semaphore(0)
        self.over = threading.Event()

    def wait(self) -> bool:
        assert self.ticks.acquire(timeout=WAIT_SECONDS)
        return not self.over.is_set()

    def stop(self) -> None:
        self.over.set()
        self.ticks.release()


def test_samples_while_it_runs_and_at_the_end() -> None:
    """The second tick's figures hold what happened since the first; all of it fits into JSON."""
    bell, samples, sampled = Bell(), [], threading.Semaphore(0)

    def take(sample: dict[str, Any]) -> None:
        samples.append(json.loads(json.dumps(sample)))
        sampled.release()

    def compute(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        if frame.index in (2, 5):
            bell.ticks.release()
            assert sampled.acquire(timeout=WAIT_SECONDS)
        return segment(frame, outputs=outputs)

    cpu = count(0, 2)  # two more CPU seconds at every question
    clock = count(0, 500_000_000)
    machine = Machine(
        clock_ns=lambda: next(clock),  # half a second more
        cpu_seconds=lambda: float(next(cpu)),
        gpu=GpuMeter(lambda: {"load_percent": 40.0}),
    )
    lane = Lane(MemorySource(images(8), name="cam"), [])
    watch = Watch(on_sample=take, ticker=bell, machine=machine)
    reports = run_in_thread(MultiPipeline([lane], compute, watch=watch))
    assert isinstance(reports, tuple)
    assert [sample["sources"][0]["written"] for sample in samples] == [2, 5, 8]
    assert samples[0]["sources"][0]["name"] == "cam"
    assert samples[0]["sources"][0]["latency_ms"]["p99"] > 0
    assert samples[0]["sources"][0]["stages_ms"] == {"network": 2.0}
    assert samples[0]["sources"][0]["oldest_ms"]["segmenter"] > 0
    assert samples[0]["process"]["cpu_percent"] == 400.0
    assert samples[-1]["gpu"] == {"load_percent": 40.0}
    assert reports[0].machine["gpu"] == {"load_percent": {"mean": 40.0, "max": 40.0}}
    assert reports[0].machine["process"]["cpu_percent"] == 400.0


def test_a_watcher_that_raises_ends_the_run() -> None:
    bell = Bell()

    def refuse(sample: dict[str, Any]) -> None:
        raise Broken("watcher")

    class Endless(MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            bell.ticks.release()
            assert self._closed.wait(WAIT_SECONDS), "nobody closed the source"

    lane = Lane(Endless(images(2)), [MemorySink()])
    watch = Watch(on_sample=refuse, ticker=bell)
    error = run_in_thread(MultiPipeline([lane], segment, watch=watch))
    assert isinstance(error, Broken)


def test_jitter_and_intervals() -> None:
    """An even stream has none; one late frame shows twice: late, then early."""
    from segedge.frames.timing import StageTimes
    from segedge.pipeline.stats import RunStats

    stats = RunStats()
    for now_ms in (0, 40, 80, 140, 160, 200):
        stats.add_written(StageTimes(), compute_ms=1, latency_ms=1, now_ns=now_ms * 10**6)
    intervals, jitter = stats.interval.summary(), stats.jitter.summary()
    assert (intervals.count, intervals.mean_ms, intervals.max_ms) == (5, 40.0, 60.0)
    assert (jitter.count, jitter.mean_ms, jitter.max_ms) == (4, 20.0, 40.0)  # 0 20 40 20


def test_a_pipeline_without_sources() -> None:
    with pytest.raises(UsageError, match="without a source"):
        MultiPipeline([], segment)


@given(number=st.integers(0, 12), limit=st.integers(1, 12))
def test_a_limit_of_frames(number: int, limit: int) -> None:
    source = LimitedSource(MemorySource(images(number)), frames=limit)
    assert [frame.index for frame in source.frames()] == list(range(min(number, limit)))
    assert source.info.frame_count == min(number, limit)


def test_a_limit_of_seconds_is_the_video_s_own_time() -> None:
    source = LimitedSource(MemorySource(images(100), fps=10), seconds=2.0, clock_ns=lambda: 0)
    assert sum(1 for _ in source.frames()) == 20
    assert source.info.frame_count == 20


def test_a_limit_of_seconds_of_a_live_source_is_the_clock_s() -> None:
    inner = MemorySource(images(100), fps=10, live=True)
    clock = count(0, 10**9)
    source = LimitedSource(inner, seconds=3.0, clock_ns=lambda: next(clock))
    assert sum(1 for _ in source.frames()) == 3
    assert inner._closed.is_set()


def test_a_video_that_was_limited_does_not_count_as_cut() -> None:
    inner = MemorySource(images(9))
    inner.failures = (SourceFailure("x", "ends early", cut=True), SourceFailure("y", "damaged"))
    source = LimitedSource(inner, frames=4)
    assert len(list(source.frames())) == 4
    assert [failure.name for failure in source.failures] == ["y"]
    whole = LimitedSource(inner, frames=40)
    assert len(list(whole.frames())) == 0  # closed
    assert len(whole.failures) == 2


@pytest.mark.parametrize("policy", ["latest", "lossless"])
def test_a_callable_that_raises_ends_the_run_and_never_hangs(policy: Any) -> None:
    """Whatever the other parts wait for: a source without end, a sink that is stalled."""
    from segedge.video.sinks.callable_sink import CallableSink

    stuck = WaitingSink()

    class Endless(MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            assert self._closed.wait(WAIT_SECONDS), "nobody closed the source"

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


def test_a_sample_holds_what_came_since_the_last_one() -> None:
    """Counts go on; rate, latency and stages begin anew."""
    from segedge.pipeline.ledger import Ledger

    now = [0]
    ledger = Ledger(sinks=["out"], expected=None, clock_ns=lambda: now[0])

    def frame(index: int, *, network_ms: float, latency_ms: int) -> None:
        job = ledger.enter(Frame(images(1)[0], index, captured_ns=now[0]))
        job.frame.times.add("network", network_ms)
        ledger.taken(job)
        ledger.computed(job, segment(Frame(images(1)[0]), outputs=frozenset()), network_ms)
        now[0] += latency_ms * 10**6
        ledger.received(job, 0)
        ledger.written(job, job.for_sink().times, 0)

    for index in range(4):
        frame(index, network_ms=10, latency_ms=250)
    first = ledger.sample()
    for index in range(2):
        frame(index, network_ms=30, latency_ms=500)
    waiting = ledger.enter(Frame(images(1)[0], 9, captured_ns=now[0]))
    now[0] += 10**9
    second = ledger.sample()
    assert (first["written"], first["fps"], first["stages_ms"]) == (4, 4.0, {"network": 10.0})
    assert first["latency_ms"]["p50"] == pytest.approx(250, rel=0.01)
    assert (second["written"], second["fps"], second["stages_ms"]) == (6, 1.0, {"network": 30.0})
    assert second["latency_ms"]["p50"] == pytest.approx(500, rel=0.01)
    assert second["oldest_ms"] == {"inbox": 1000.0, "segmenter": 0.0, "out": 0.0}
    ledger.dropped(waiting)
    assert ledger.sample()["latency_ms"] is None
    assert ledger.places()[2].waited is not None
    assert ledger.places()[2].waited.max_ms == 500.0  # type: ignore[union-attr]
