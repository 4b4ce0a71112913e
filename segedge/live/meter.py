"""What the live view itself sees of a source: rate, latency, gaps; by second, for a minute."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from segedge.frames.frame import Frame
from segedge.frames.timing import percentile

KEPT_SECONDS = 60
"""Points of the charts."""
RECENT_SECONDS = 10
"""What "now" means for rate and latency."""


@dataclass(frozen=True)
class Point:
    """One second of a source."""

    frames: int
    """Frames that came."""
    seconds: float
    """Its exact length."""
    dropped: int
    """Frames that were dropped in it."""
    p50_ms: float | None
    """Median latency, capture to view; None without frames."""
    p95_ms: float | None
    """95th percentile of the latency."""


class Meter:
    """Counts of one source. Any thread may call."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.written = 0
        """Frames that came so far."""
        self.gaps = 0
        """Indices that never came: frames dropped on the way here."""
        self.latency_sum_ms = 0.0
        """Over all frames."""
        self.stage_sums_ms: dict[str, float] = {}
        """Stage to milliseconds, over all frames."""
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._next_index: int | None = None
        self._second: list[float] = []
        self._second_began_ns = clock_ns()
        self._dropped_before = 0
        self._points: deque[Point] = deque(maxlen=KEPT_SECONDS)
        self._recent: deque[list[float]] = deque(maxlen=RECENT_SECONDS)

    def add(self, frame: Frame) -> float:
        """Count a frame; returns its latency so far, in milliseconds."""
        latency_ms = (self._clock_ns() - frame.captured_ns) / 1e6
        with self._lock:
            self.written += 1
            self.latency_sum_ms += latency_ms
            self._second.append(latency_ms)
            if self._next_index is not None and frame.index > self._next_index:
                self.gaps += frame.index - self._next_index
            self._next_index = frame.index + 1
            for stage, milliseconds in frame.times.milliseconds.items():
                self.stage_sums_ms[stage] = self.stage_sums_ms.get(stage, 0.0) + milliseconds
        return latency_ms

    def tick(self, dropped: int | None = None) -> Point:
        """End a second; ``dropped`` so far, where somebody knows better than the gaps tell."""
        with self._lock:
            now_ns = self._clock_ns()
            total = self.gaps if dropped is None else dropped
            values, self._second = self._second, []
            point = Point(
                frames=len(values),
                seconds=(now_ns - self._second_began_ns) / 1e9,
                dropped=max(0, total - self._dropped_before),
                p50_ms=percentile(values, 50) if values else None,
                p95_ms=percentile(values, 95) if values else None,
            )
            self._second_began_ns, self._dropped_before = now_ns, total
            self._points.append(point)
            self._recent.append(values)
            return point

    def fps(self) -> float:
        """Frames a second over the last seconds."""
        with self._lock:
            recent = list(self._points)[-RECENT_SECONDS // 2 :]
        seconds = sum(point.seconds for point in recent)
        return sum(point.frames for point in recent) / seconds if seconds > 0 else 0.0

    def latency_ms(self) -> dict[str, float]:
        """p50, p95 and p99 over the last `RECENT_SECONDS`; empty without frames."""
        with self._lock:
            values = [value for second in self._recent for value in second]
        values = values[-5000:]
        return {f"p{p}": percentile(values, p) for p in (50, 95, 99)} if values else {}

    def history(self) -> list[dict[str, Any]]:
        """The last minute, a point a second, in plain types."""
        with self._lock:
            return [asdict(point) for point in self._points]
