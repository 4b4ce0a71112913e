"""What a run amounted to: counts, times, and the report that is made of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.pipeline.histogram import Histogram
from segedge.timing import STAGES, StageTimes, Summary
from segedge.video.protocols import SourceFailure


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    read: int
    """Frames taken from the source."""
    written: int
    """Frames that every sink has taken."""
    dropped: int
    """Frames that were given up: a live source was faster, or the run was interrupted."""
    failed: int
    """Frames lost to the error that ended the run."""
    expected: int | None
    """Frames that the source declared, or None."""
    seconds: float
    """Since the start of the run."""

    @property
    def fps(self) -> float:
        """Frames written a second, from the start of the run to now."""
        return self.written / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class RunReport:
    """A finished run. Every frame is accounted for: read = written + dropped + failed."""

    source: str
    """What was read."""
    read: int
    """Frames taken from the source."""
    written: int
    """Frames that every sink has taken."""
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
    """The segmenter's call, from frame to result: what limits the rate when nothing else does."""
    latency: Summary | None
    """From the frame's capture (a file's: begin of its decoding) until the last sink had it."""
    interrupted: bool
    """Whether Ctrl-C ended it."""
    paths: tuple[Path, ...]
    """What the sinks made."""
    failures: tuple[SourceFailure, ...]
    """What of the source could not be read."""
    notes: tuple[str, ...]
    """What the sinks want to be known."""

    def to_dict(self) -> dict[str, Any]:
        """The same in plain types, for JSON."""
        values = dataclasses.asdict(self)
        return {**values, "paths": [str(path) for path in self.paths]}


class RunStats:
    """Counts and histograms of a run; memory does not grow with its length. Not thread-safe."""

    def __init__(self) -> None:
        self.counts = {"read": 0, "written": 0, "dropped": 0, "failed": 0}
        self.first_written_ns: int | None = None
        self._stages: dict[str, Histogram] = {}
        self._compute = Histogram()
        self._latency = Histogram()

    def add_written(self, times: StageTimes, *, compute_ms: float, latency_ms: float) -> None:
        """Count one frame's times; the counts are the ledger's business."""
        for stage, milliseconds in times.milliseconds.items():
            self._stages.setdefault(stage, Histogram()).add(milliseconds)
        self._compute.add(compute_ms)
        self._latency.add(latency_ms)

    @property
    def stages(self) -> dict[str, Summary]:
        """Summaries by stage: the known ones in their order, then others."""
        order = [*(s for s in STAGES if s in self._stages), *sorted(set(self._stages) - {*STAGES})]
        return {stage: self._stages[stage].summary() for stage in order}

    @property
    def compute(self) -> Summary | None:
        """Summary of the segmenter's calls, or None if no frame was written."""
        return self._compute.summary() if len(self._compute) else None

    @property
    def latency(self) -> Summary | None:
        """Summary of capture to last sink, or None if no frame was written."""
        return self._latency.summary() if len(self._latency) else None
