"""SegmentedSink: a recording in files of some minutes, each of them whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segedge.errors import SinkError, UsageError
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import PixelTags, ResultView
from segedge.video.encode.options import EncodeOptions
from segedge.video.picture import Clock
from segedge.video.sinks.video import VideoSink


@dataclass
class SegmentedSink:
    """``out.mp4`` becomes ``out-000.mp4``, ``out-001.mp4`` ...: every frame in exactly one.

    - *Cut*: with the first frame that is ``segment_seconds`` or more after the segment's first, in
      the time of the source. Each file begins with a key frame and at time 0.
    - *Size*: a frame of another size begins a new segment.
    - *Names*: numbers go on behind those that exist: no recording replaces an older one. Each file
      has its name only when it is whole, as `VideoSink` says.
    - *Full disk*: the files before are whole, what plays of the current one is kept as
      ``out-NNN.partial.mp4``, and the run ends.
    """

    path: Path
    """What the names are made from."""
    fps: float
    """Nominal frames a second."""
    segment_seconds: float
    """Length of a file; the last one is shorter."""
    options: EncodeOptions = field(default_factory=EncodeOptions)
    """How to encode."""
    sound_of: Path | None = None
    """The video file whose sound is copied."""
    tags: PixelTags | None = None
    """What `SourceInfo` says."""
    needs: frozenset[str] = frozenset({"overlay"})
    """See `Sink`."""

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        if not self.segment_seconds > 0:
            raise UsageError(f"segments need a positive length, found {self.segment_seconds} s")
        self._paths: list[Path] = []
        self.notes: list[str] = []
        self._number = _next_number(self.path)
        if self._number:
            self.notes.append(
                f"{self.path.name}: older segments are there; this run begins with "
                f"{self._segment_path().name}"
            )
        self._current: VideoSink | None = self._new_segment()
        self._clock = Clock(self.fps)
        self._start: int | None = None
        self._is_closed = False
        self._size: tuple[int, ...] = ()

    @property
    def paths(self) -> Sequence[Path]:
        """The segments that are whole, in order."""
        return tuple(self._paths)

    def write(self, frame: Frame, result: ResultView) -> None:
        """Encode one overlay into the segment that its time belongs to."""
        check_takes(not self._is_closed, self.path)
        now, _ = self._clock.ticks(frame.pts_seconds)
        size = result.overlay().shape[:2]
        if self._start is not None and (
            size != self._size or (now - self._start) * self._clock.time_base >= self._length
        ):
            self._finish()
            self._start = None
        if self._start is None:
            self._start, self._size = now, size
        if self._current is None:
            self._current = self._new_segment()
        try:
            self._current.write(frame, result)
        except SinkError as error:
            self._fail(error)
            raise

    def close(self, *, error: bool = False) -> None:
        """Finish the current segment; after a failed run it is called partial."""
        self._is_closed = True
        self._finish(error=error)

    @property
    def _length(self) -> float:
        """Half a tick less: times are rounded to ticks."""
        return self.segment_seconds - float(self._clock.time_base) / 2

    def _finish(self, *, error: bool = False) -> None:
        if self._current is None:
            return
        try:
            self._current.close(error=error)
        except SinkError as failure:
            self._fail(failure)
            raise
        self._take()
        self._number += 1

    def _fail(self, error: SinkError) -> None:
        """The segment has closed itself, and kept what plays."""
        if self._paths:
            count = len(self._paths)
            error.facts["before it"] = f"{count} whole segment{'' if count == 1 else 's'}"
        self._take()

    def _take(self) -> None:
        """What the current segment has made, and nothing more of it."""
        if self._current is None:
            return
        self._paths += self._current.paths
        self.notes += [note for note in self._current.notes if note not in self.notes]
        self._current = None

    def _new_segment(self) -> VideoSink:
        return VideoSink(
            self._segment_path(), fps=self.fps, options=self.options,
            sound_of=self.sound_of, tags=self.tags,
        )  # fmt: skip

    def _segment_path(self) -> Path:
        return self.path.with_name(f"{self.path.stem}-{self._number:03d}{self.path.suffix}")


def _next_number(path: Path) -> int:
    """The number after the highest that a segment of this name has, partial ones too."""
    if not path.parent.is_dir():
        return 0
    named = re.compile(
        rf"{re.escape(path.stem)}-(\d{{3,}})(\.partial)?{re.escape(path.suffix)}", re.IGNORECASE
    )
    found = (named.fullmatch(entry.name) for entry in path.parent.iterdir())
    return max((int(match[1]) + 1 for match in found if match), default=0)
