"""WrappedSink: what a sink is that does something around another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, Sink


class WrappedSink:
    """A sink that is as the one within, but for what a subclass changes."""

    def __init__(self, sink: Sink) -> None:
        """Wrap a sink; closing this one closes it."""
        self._sink = sink

    @property
    def needs(self) -> frozenset[str]:
        """What it reads."""
        return self._sink.needs

    @property
    def paths(self) -> Sequence[Path]:
        """What it made."""
        return self._sink.paths

    @property
    def notes(self) -> Sequence[str]:
        """What it has to say."""
        return self._sink.notes

    def write(self, frame: Frame, result: ResultView) -> None:
        """Hand one frame on."""
        self._sink.write(frame, result)

    def close(self, *, error: bool = False) -> None:
        """Close it."""
        self._sink.close(error=error)
