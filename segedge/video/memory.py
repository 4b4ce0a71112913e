"""A source and a sink in memory: for tests, notebooks, and arrays that are there already."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, SourceFailure, SourceInfo


class MemorySource:
    """Frames from arrays."""

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        *,
        fps: float | None = None,
        name: str = "memory",
        live: bool = False,
        notes: Sequence[str] = (),
        before_frame: Callable[[int], None] | None = None,
    ) -> None:
        """Keep the arrays; they are not copied.

        Args:
            images: H x W x 3 uint8 BGR each.
            fps: Gives the frames times ``index / fps``; None leaves them without.
            name: What `SourceInfo.name` says.
            live: What `SourceInfo.live` says, so that the pipeline drops as for a camera.
            notes: What a source that reconnects would tell.
            before_frame: Called with the index before each frame, in the thread that reads: it
                may wait, as for a camera, or raise, as when one is lost.
        """
        self._images = images
        self._before_frame = before_frame or (lambda index: None)
        self.notes = tuple(notes)
        self._closed = threading.Event()
        size = images[0].shape[:2] if len(images) else None
        self.info = SourceInfo(name, "memory", size, fps, len(images), live)
        self.failures: Sequence[SourceFailure] = ()

    def frames(self) -> Iterator[Frame]:
        """The arrays, in order."""
        fps = self.info.fps
        for index, image in enumerate(self._images):
            self._before_frame(index)
            if self._closed.is_set():
                return
            yield Frame(image, index=index, pts_seconds=index / fps if fps else None)

    def close(self) -> None:
        """End a running iteration."""
        self._closed.set()


@dataclass(frozen=True)
class Written:
    """One call of `MemorySink.write`."""

    frame: Frame
    result: ResultView


class MemorySink:
    """Keeps what it is given, as it is: for short runs."""

    def __init__(self, *, needs: frozenset[str] = frozenset({"labels"})) -> None:
        """Start empty.

        Args:
            needs: What the results must have computed.
        """
        self.needs = needs
        self.written: list[Written] = []
        self.paths: Sequence[Path] = ()
        self.notes: Sequence[str] = ()
        self.closed_with_error: bool | None = None
        """What `close` was told; None while open."""

    def write(self, frame: Frame, result: ResultView) -> None:
        """Keep both."""
        check_takes(self.closed_with_error is None, "the sink in memory")
        self.written.append(Written(frame, result))

    def close(self, *, error: bool = False) -> None:
        """Remember how it ended; the first call counts."""
        if self.closed_with_error is None:
            self.closed_with_error = error
