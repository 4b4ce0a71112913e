"""What a run amounted to: counts, times, and the report that is made of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segedge.frames.protocols import SourceFailure
from segedge.frames.timing import STAGES, StageTimes, Summary
from segedge.pipeline.histogram import Histogram


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    read: int
    """Frames taken from the source."""
    written: int
    """Frames that the sinks are done with and that at least one of them has shown."""
    dropped: int
    """Frames that were given up: a live source was faster, or the run was interrupted."""
    failed: int
    """Frames lost to the error that ended the run."""
    expected: int | None
    """Frames that the source declared, or None."""
    seconds: float
    """Since the start of the run."""
    source: int = 0
    """Which source, where there are several; from 0."""

    @property
    def fps(self) -> float:
        """Frames written a second, from the start of the run to now."""
        return self.written / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class PlaceReport:
    """One place that frames pass. Nothing vanishes: received = passed + dropped + failed.

    ``inbox`` has received what was read and passes on to ``segmenter``; what that passes on, every
    sink receives.
    """

    place: str
    """``inbox``, ``segmenter``, or the name of a sink."""
    received: int
    passed: int
    dropped: int
    """A newer frame took the place, or the run was ended on request."""
    failed: int
    """Lost to the error that ended the run."""
    waited: Summary | None
    """How long frames that passed had waited in front of it; None where there is no queue."""
    latency: Summary | None
    """A sink's: from the frame's capture until this sink had it."""


@dataclass(frozen=True)
class RunReport:
    """A finished run. Every frame is accounted for: read = written + dropped + failed."""

    source: str
    """What was read."""
    read: int
    """Frames taken from the source."""
    written: int
    """Frames that the sinks are done with and that at least one of them has shown; without
    ``latest`` in front of them that is every sink."""
    dropped: int
    """Frames that were given up."""
    failed: int
    """Frames lost to the error that ended the run."""
    seconds: float
    """The whole run: opening of the files by the sinks, first frame and finishing included."""
    fps: float
    """Frames written a second, over ``seconds``."""
    first_frame_seconds: float | None
    """From the start until the first frame was written, or None."""
    stages: dict[str, Summary]
    """Times of written frames by stage, in the order in which a frame meets them. Stages of
    different threads overlap: decode and encode run beside the others."""
    compute: Summary | None
    """The segmenter's call, from frame to result, or with motion the sum of the frame's stages:
    what limits the rate when nothing else does."""
    latency: Summary | None
    """From the frame's capture (a file's: begin of its decoding) until the last sink had it."""
    interrupted: bool
    """Whether Ctrl-C, SIGTERM or SIGHUP ended it."""
    paths: tuple[Path, ...]
    """What the sinks made."""
    failures: tuple[SourceFailure, ...]
    """What of the source could not be read."""
    notes: tuple[str, ...]
    """What the sinks want to be known."""
    policy: str = "lossless"
    """``lossless`` or ``latest``."""
    ended_by: str = "source"
    """``source``, ``SIGINT``, ``SIGTERM``, ``SIGHUP``, ``stop`` (a limit, a sink) or ``error``."""
    places: tuple[PlaceReport, ...] = ()
    """Where frames went, and how long they waited there."""
    interval: Summary | None = None
    """Between a written frame and the one before it."""
    jitter: Summary | None = None
    """How much one interval differs from the one before it; 0 is an even stream."""
    machine: dict[str, Any] = field(default_factory=dict)
    """CPU, memory and GPU over the run: see docs/pipeline.md. Shared by all sources of a run."""
    motion: dict[str, Any] | None = None
    """Where logits are carried by motion: frames that the network saw, and how far carried labels
    agree with its own; see docs/motion.md."""
    drift: dict[str, Any] | None = None
    """How the last frames compare with those that the network knows; see docs/adapt.md."""
    error: str | None = None
    """The first line of what ended it, where that is not raised: one source of several."""

    @property
    def drops(self) -> dict[str, int]:
        """Place to frames dropped there, where there were any."""
        return {place.place: place.dropped for place in self.places if place.dropped}

    def to_dict(self) -> dict[str, Any]:
        """The same in plain types, for JSON."""
        values = dataclasses.asdict(self)
        return {**values, "paths": [str(path) for path in self.paths]}


class Place:
    """Counts of one place while the run goes on. Not thread-safe: the ledger's business."""

    def __init__(self, name: str, *, queued: bool) -> None:
        self.name = name
        self.counts = {"received": 0, "passed": 0, "dropped": 0, "failed": 0}
        self.waited = Histogram()
        self.latency = Histogram()
        self.queued = queued

    def report(self) -> PlaceReport:
        """The counts so far."""
        return PlaceReport(
            self.name,
            **self.counts,
            waited=self.waited.summary_or_none() if self.queued else None,
            latency=self.latency.summary_or_none(),
        )


class RunStats:
    """Counts and histograms of a run; memory does not grow with its length. Not thread-safe."""

    def __init__(self) -> None:
        self.counts = {"read": 0, "written": 0, "dropped": 0, "failed": 0}
        self.first_written_ns: int | None = None
        self.interval = Histogram()
        self.jitter = Histogram()
        self.recent = Recent()
        self._stages: dict[str, Histogram] = {}
        self._compute = Histogram()
        self._latency = Histogram()
        self._last_ns: int | None = None
        self._last_interval_ms: float | None = None

    def add_written(
        self, times: StageTimes, *, compute_ms: float, latency_ms: float, now_ns: int
    ) -> None:
        """Count one frame's times; the counts are the ledger's business."""
        for stage, milliseconds in times.milliseconds.items():
            self._stages.setdefault(stage, Histogram()).add(milliseconds)
        self._compute.add(compute_ms)
        self._latency.add(latency_ms)
        self.recent.add(times, latency_ms)
        if self.first_written_ns is None:
            self.first_written_ns = now_ns
        if self._last_ns is not None:
            # A slow sink may finish an old frame after newer ones: no time between them.
            self._add_interval(max(0.0, (now_ns - self._last_ns) / 1e6))
        self._last_ns = now_ns

    def _add_interval(self, interval_ms: float) -> None:
        self.interval.add(interval_ms)
        if self._last_interval_ms is not None:
            jitter_ms = abs(interval_ms - self._last_interval_ms)
            self.jitter.add(jitter_ms)
            self.recent.jitter.add(jitter_ms)
        self._last_interval_ms = interval_ms

    @property
    def stages(self) -> dict[str, Summary]:
        """Summaries by stage: the known ones in their order, then others."""
        order = [*(s for s in STAGES if s in self._stages), *sorted(set(self._stages) - {*STAGES})]
        return {stage: self._stages[stage].summary() for stage in order}

    @property
    def compute(self) -> Summary | None:
        """Summary of the segmenter's calls, or None if no frame was written."""
        return self._compute.summary_or_none()

    @property
    def latency(self) -> Summary | None:
        """Summary of capture to last sink, or None if no frame was written."""
        return self._latency.summary_or_none()


class Recent:
    """Times since the last sample."""

    def __init__(self) -> None:
        self.latency = Histogram()
        self.jitter = Histogram()
        self._stages: dict[str, float] = {}

    def add(self, times: StageTimes, latency_ms: float) -> None:
        """Count one frame."""
        self.latency.add(latency_ms)
        for stage, milliseconds in times.milliseconds.items():
            self._stages[stage] = self._stages.get(stage, 0.0) + milliseconds

    def stages_ms(self) -> dict[str, float]:
        """Mean milliseconds a frame by stage."""
        count = max(1, len(self.latency))
        order = sorted(self._stages, key=lambda s: STAGES.index(s) if s in STAGES else len(STAGES))
        return {stage: round(self._stages[stage] / count, 3) for stage in order}
