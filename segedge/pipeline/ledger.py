"""Ledger: what became of every frame that was read, and where."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.frames.timing import COMPUTING, StageTimes, Summary
from segedge.pipeline.stats import Place, PlaceReport, Progress, Recent, RunStats

Fate = Literal["written", "dropped", "failed"]


@dataclass(eq=False)
class Job:
    """One frame on its way."""

    frame: Frame
    since_ns: int = 0
    """When it was put where it waits now."""
    result: ResultView | None = None
    """Set by the segmenter's thread before any sink sees the job."""
    compute_ms: float = 0.0
    """What the segmenter's call took."""
    at: set[int] = field(default_factory=lambda: {0})
    """Places that are not done with it; see `Ledger`."""
    shown_ns: int | None = None
    """When the latest sink had it, or None."""
    computed: dict[str, float] = field(default_factory=dict)
    """Stage times up to the result, in milliseconds."""

    def for_sink(self) -> Frame:
        """The frame with its own copy of the times so far: sinks run at once, and add to them."""
        return dataclasses.replace(self.frame, times=StageTimes(dict(self.computed)))


_INBOX, _SEGMENTER, _FIRST_SINK = 0, 1, 2
"""Numbers of the places; the sinks follow."""


class Ledger:
    """Enters every frame once and closes its entry once. Safe from several threads."""

    def __init__(
        self, *, sinks: Sequence[str], expected: int | None, clock_ns: Callable[[], int]
    ) -> None:
        """Begin; ``sinks`` are names, none where the run itself is done with a frame."""
        self.stats = RunStats()
        self._places = [Place("inbox", queued=True), Place("segmenter", queued=False)]
        self._places += [Place(name, queued=True) for name in sinks]
        self._expected = expected
        self._clock_ns = clock_ns
        self._start_ns = clock_ns()
        self._sampled_ns = self._start_ns
        self._lock = threading.Lock()
        self._open: set[Job] = set()

    def enter(self, frame: Frame) -> Job:
        """A frame was read."""
        job = Job(frame, self._clock_ns())
        with self._lock:
            self.stats.counts["read"] += 1
            self._places[_INBOX].counts["received"] += 1
            self._open.add(job)
        return job

    def taken(self, job: Job) -> None:
        """The segmenter has it in hand."""
        with self._lock:
            self._places[_INBOX].waited.add((self._clock_ns() - job.since_ns) / 1e6)
            self._move(job, _INBOX, {_SEGMENTER})

    def computed(self, job: Job, result: ResultView, compute_ms: float) -> None:
        """The segmenter is done; from here on the sinks share the job."""
        job.result = result
        job.compute_ms = compute_ms
        job.computed = dict(job.frame.times.milliseconds)
        with self._lock:
            job.since_ns = self._clock_ns()
            self._move(job, _SEGMENTER, set(range(_FIRST_SINK, len(self._places))))

    def received(self, job: Job, sink: int) -> None:
        """A sink has taken it from its queue."""
        with self._lock:
            waited_ms = (self._clock_ns() - job.since_ns) / 1e6
            self._places[_FIRST_SINK + sink].waited.add(waited_ms)

    def written(self, job: Job, times: StageTimes, sink: int | None = None) -> None:
        """A sink, by its number, is done with a frame, or the run itself where there is none."""
        with self._lock:
            if job not in self._open:
                return
            for stage, milliseconds in times.milliseconds.items():
                job.frame.times.add(stage, milliseconds - job.computed.get(stage, 0.0))
            job.shown_ns = self._clock_ns()
            if sink is not None:
                place = _FIRST_SINK + sink
                self._places[place].latency.add((job.shown_ns - job.frame.captured_ns) / 1e6)
                self._leave(job, place, "passed")
            self._finish_if_done(job)

    def dropped(self, job: Job, sink: int | None = None) -> None:
        """A newer frame took its place in the inbox, or in the queue of a sink."""
        with self._lock:
            if job not in self._open:
                return
            self._leave(job, _INBOX if sink is None else _FIRST_SINK + sink, "dropped")
            self._finish_if_done(job)

    def settle_rest(self, fate: Literal["dropped", "failed"]) -> None:
        """At the end: what became of the frames that were still on their way."""
        with self._lock:
            for job in tuple(self._open):
                for place in tuple(job.at):
                    self._leave(job, place, fate)
                self._settle(job, fate)

    def places(self) -> tuple[PlaceReport, ...]:
        """The counts by place so far."""
        with self._lock:
            return tuple(place.report() for place in self._places)

    def progress(self, source: int = 0) -> Progress:
        """Where the run stands."""
        with self._lock:
            return Progress(
                **self.stats.counts, expected=self._expected, seconds=self.seconds(), source=source
            )

    def sample(self) -> dict[str, Any]:
        """Counts so far, and the times since the last sample, in plain types."""
        with self._lock:
            now_ns, recent = self._clock_ns(), self.stats.recent
            seconds = max(1e-9, (now_ns - self._sampled_ns) / 1e9)
            self.stats.recent, self._sampled_ns = Recent(), now_ns
            waiting = [0.0] * len(self._places)
            for job in self._open:
                for place in job.at:
                    waiting[place] = max(waiting[place], (now_ns - job.since_ns) / 1e6)
            return {
                **self.stats.counts,
                "expected": self._expected,
                "fps": round(len(recent.latency) / seconds, 2),
                "latency_ms": _percentiles(recent.latency.summary_or_none()),
                "jitter_ms": _percentiles(recent.jitter.summary_or_none()),
                "stages_ms": recent.stages_ms(),
                "drops": {p.name: p.counts["dropped"] for p in self._places},
                "oldest_ms": {
                    place.name: round(age, 3)
                    for place, age in zip(self._places, waiting, strict=True)
                },
            }

    def seconds(self, until_ns: int | None = None) -> float:
        """From the start of the run until then, or until now."""
        return ((self._clock_ns() if until_ns is None else until_ns) - self._start_ns) / 1e9

    def _move(self, job: Job, place: int, to: set[int]) -> None:
        if job not in self._open:
            return
        self._leave(job, place, "passed")
        for other in to:
            self._places[other].counts["received"] += 1
        job.at |= to

    def _leave(self, job: Job, place: int, how: Literal["passed", "dropped", "failed"]) -> None:
        job.at.discard(place)
        self._places[place].counts[how] += 1

    def _finish_if_done(self, job: Job) -> None:
        """Close the entry when no place has it any more."""
        if job.at:
            return
        self._settle(job, "dropped" if job.shown_ns is None else "written")
        if job.shown_ns is not None:
            # A GPU's result comes back at once and is computed while the next call runs.
            compute_ms = max(job.compute_ms, job.frame.times.total(*COMPUTING))
            latency_ms = (job.shown_ns - job.frame.captured_ns) / 1e6
            self.stats.add_written(
                job.frame.times, compute_ms=compute_ms, latency_ms=latency_ms, now_ns=job.shown_ns
            )

    def _settle(self, job: Job, fate: Fate) -> None:
        self._open.discard(job)
        self.stats.counts[fate] += 1


def _percentiles(summary: Summary | None) -> dict[str, float] | None:
    if summary is None:
        return None
    figures = {"p50": summary.p50_ms, "p95": summary.p95_ms, "p99": summary.p99_ms}
    return {name: round(value, 3) for name, value in figures.items()}
