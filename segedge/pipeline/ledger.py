"""Ledger: what became of every frame that was read."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from segedge.frame import Frame
from segedge.pipeline.stats import Progress, RunStats
from segedge.timing import COMPUTING, StageTimes
from segedge.video.protocols import ResultView

Fate = Literal["written", "dropped", "failed"]


@dataclass(eq=False)
class Job:
    """One frame on its way."""

    frame: Frame
    result: ResultView | None = None
    """Set by the segmenter's thread before any sink sees the job."""
    compute_ms: float = 0.0
    """What the segmenter's call took."""
    to_write: int = 1
    """Sinks that have not had it yet."""
    computed: dict[str, float] = field(default_factory=dict)
    """Stage times up to the result, in milliseconds."""

    def computed_now(self, result: ResultView, compute_ms: float) -> None:
        """The segmenter is done; from here on the sinks share the job."""
        self.result = result
        self.compute_ms = compute_ms
        self.computed = dict(self.frame.times.milliseconds)

    def for_sink(self) -> Frame:
        """The frame with its own copy of the times so far: sinks run at once, and add to them."""
        return dataclasses.replace(self.frame, times=StageTimes(dict(self.computed)))


class Ledger:
    """Enters every frame once and closes its entry once. Safe from several threads."""

    def __init__(self, *, sinks: int, expected: int | None, clock_ns: Callable[[], int]) -> None:
        """Begin the run.

        Args:
            sinks: How many have to write a frame for it to count as written.
            expected: Frames to come, for `Progress`.
            clock_ns: The monotonic clock.
        """
        self.stats = RunStats()
        self._sinks = sinks
        self._expected = expected
        self._clock_ns = clock_ns
        self._start_ns = clock_ns()
        self._lock = threading.Lock()
        self._open: set[Job] = set()

    def enter(self, frame: Frame) -> Job:
        """A frame was read."""
        job = Job(frame, to_write=self._sinks)
        with self._lock:
            self.stats.counts["read"] += 1
            self._open.add(job)
        return job

    def written(self, job: Job, times: StageTimes) -> None:
        """One sink (or the run itself, where there is none) is done with it.

        Args:
            job: The frame's entry.
            times: The times of the `Job.for_sink` that this sink had.
        """
        with self._lock:
            for stage, milliseconds in times.milliseconds.items():
                job.frame.times.add(stage, milliseconds - job.computed.get(stage, 0.0))
            job.to_write -= 1
            if job.to_write > 0 or job not in self._open:
                return
            self._settle(job, "written")
            now_ns = self._clock_ns()
            latency_ms = (now_ns - job.frame.captured_ns) / 1e6
            # A GPU's result comes back at once and is computed while the next call runs.
            compute_ms = max(job.compute_ms, job.frame.times.total(*COMPUTING))
            self.stats.add_written(job.frame.times, compute_ms=compute_ms, latency_ms=latency_ms)
            if self.stats.first_written_ns is None:
                self.stats.first_written_ns = now_ns

    def dropped(self, job: Job) -> None:
        """A newer frame took its place."""
        with self._lock:
            self._settle(job, "dropped")

    def settle_rest(self, fate: Fate) -> None:
        """At the end: what became of the frames that were still on their way."""
        with self._lock:
            for job in tuple(self._open):
                self._settle(job, fate)

    def progress(self) -> Progress:
        """Where the run stands."""
        with self._lock:
            return Progress(**self.stats.counts, expected=self._expected, seconds=self.seconds())

    def seconds(self, until_ns: int | None = None) -> float:
        """From the start of the run until then, or until now."""
        return ((self._clock_ns() if until_ns is None else until_ns) - self._start_ns) / 1e9

    def _settle(self, job: Job, fate: Fate) -> None:
        self._open.discard(job)
        self.stats.counts[fate] += 1
