"""PacedSource: a recording at its own rate, as if it came from a camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import Source, SourceFailure


class Pacer:
    """Waits until a time after its first call; the wait ends early when `close` is called."""

    def __init__(
        self,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._closed = threading.Event()
        self._clock_ns = clock_ns
        self._wait = wait or self._closed.wait
        self._start_ns: int | None = None

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def until(self, seconds: float) -> int:
        """Wait until so many seconds after the first call's time; that time on the monotonic clock.

        It is the past where the caller is late: a frame's latency counts from when it was due, or a
        stalled pipeline would look fast.
        """
        now_ns = self._clock_ns()
        if self._start_ns is None:
            self._start_ns = now_ns - round(seconds * 1e9)
        due_ns = self._start_ns + round(seconds * 1e9)
        if due_ns > now_ns and not self.is_closed():
            self._wait((due_ns - now_ns) / 1e9)
        return due_ns

    def restart(self) -> None:
        """The next call is the first again."""
        self._start_ns = None

    def close(self) -> None:
        """End a wait, and all further ones at once."""
        self._closed.set()


class PacedSource:
    """Another source's frames, each at its own time; `SourceInfo.live` is true."""

    def __init__(self, source: Source, *, fps: float | None = None, pacer: Pacer | None = None):
        """Take over a source; closing this closes it. No ``fps`` takes the frames' own times."""
        if fps is None and source.info.fps is None:
            raise UsageError(
                f"{source.info.name} has no rate of its own: still images",
                fix="give one, e.g. --source-fps 10",
            )
        self._source = source
        self._fps = fps
        self._pacer = pacer or Pacer()
        self.info = replace(source.info, fps=fps or source.info.fps, live=True)

    @property
    def failures(self) -> Sequence[SourceFailure]:
        """Those of the source within."""
        return self._source.failures

    @property
    def notes(self) -> Sequence[str]:
        """Those of the source within."""
        return tuple(getattr(self._source, "notes", ()))

    def frames(self) -> Iterator[Frame]:
        """The frames; `captured_ns` is when each was due."""
        self._pacer.restart()
        rate = self._fps or self.info.fps or 1.0
        for frame in self._source.frames():
            if self._fps is not None or frame.pts_seconds is None:
                frame.pts_seconds = frame.index / rate
            frame.captured_ns = self._pacer.until(frame.pts_seconds)
            if self._pacer.is_closed():
                return
            yield frame

    def close(self) -> None:
        """End a wait, and the source."""
        self._pacer.close()
        self._source.close()


def paced(source: Source, *, fps: float | None = None, pacer: Pacer | None = None) -> Source:
    """The source at its own rate; a live one has it already and is returned as it is."""
    return source if source.info.live else PacedSource(source, fps=fps, pacer=pacer)
