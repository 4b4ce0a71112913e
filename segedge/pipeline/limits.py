"""LimitedSource: only the beginning of a source."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence

from segedge.frames.frame import Frame
from segedge.frames.protocols import Source, SourceFailure, SourceInfo


class LimitedSource:
    """A source that ends after some frames or seconds, as if there were no more."""

    def __init__(
        self,
        source: Source,
        *,
        frames: int | None = None,
        seconds: float | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Wrap a source; closing this one closes it.

        ``seconds`` are of the video, by its time stamps; of a live source, by the clock from the
        first frame.
        """
        self._source = source
        self._frames = frames
        self._seconds = seconds
        self._clock_ns = clock_ns
        self._cut = False
        self.info = self._limited_info(source.info)

    @property
    def failures(self) -> Sequence[SourceFailure]:
        """Those of the source; where the limit ended it, nothing of it is missing."""
        found = self._source.failures
        return [failure for failure in found if not (failure.cut and self._cut)]

    @property
    def notes(self) -> Sequence[str]:
        """Those of the source, where it has any."""
        notes: Sequence[str] = getattr(self._source, "notes", ())
        return notes

    @property
    def on_note(self) -> Callable[[str], None] | None:
        """Whom the source tells of its notes, where it has any."""
        told: Callable[[str], None] | None = getattr(self._source, "on_note", None)
        return told

    @on_note.setter
    def on_note(self, told: Callable[[str], None] | None) -> None:
        if hasattr(self._source, "on_note"):
            self._source.on_note = told

    def frames(self) -> Iterator[Frame]:
        """The source's frames, up to the limit."""
        start: float | None = None
        self._cut = False
        for count, frame in enumerate(self._source.frames(), start=1):
            now = self._position(frame)
            start = now if start is None else start
            if self._seconds is not None and now - start >= self._seconds:
                self._end()
                return
            if count == self._frames:
                self._end()  # before it is yielded: a live source would wait for one more
                yield frame
                return
            yield frame

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _end(self) -> None:
        self._cut = True
        self._source.close()

    def _position(self, frame: Frame) -> float:
        if self.info.live or frame.pts_seconds is None:
            return self._clock_ns() / 1e9
        return frame.pts_seconds

    def _limited_info(self, info: SourceInfo) -> SourceInfo:
        limits = [count for count in (info.frame_count, self._frames) if count is not None]
        if self._seconds is not None and info.fps and (info.frame_count or self._frames):
            limits.append(math.ceil(self._seconds * info.fps))
        if info.frame_count is None:
            return info
        return dataclasses.replace(info, frame_count=min(limits))
