"""What a watcher is told while a run goes on, and where the figures come from."""

from __future__ import annotations

import json
import threading
from itertools import count
from typing import Any

import pytest

from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.pipeline.gpu_meter import GpuMeter
from segedge.pipeline.lane import Lane
from segedge.pipeline.machine import Machine
from segedge.pipeline.runner import MultiPipeline, Watch
from segedge.video.memory import MemorySink, MemorySource
from tests.pipeline.pipeline_parts import (
    WAIT_SECONDS,
    Broken,
    Endless,
    images,
    run_in_thread,
    segment,
)


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

    lane = Lane(Endless(images(2), then=bell.ticks.release), [MemorySink()])
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
