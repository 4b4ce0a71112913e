"""LiveMoving: frames at the camera's rate; the network works at its own, in its own thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from segedge.frames.frame import Frame, MotionNote
from segedge.frames.timing import StageTimes
from segedge.options.motion import Motion
from segedge.segment.moving import LEAST_EXPLAINED, Carrying, Held, Key, Moving, Shown, Source

_MOST_WAITING = 3
"""Frames that come while the first of a scene is in the network and wait for it: shown in turn they
are carried faster than others come. More would be too old to be worth it."""


@dataclass
class _Looked:
    """What the network's thread has made of a frame."""

    key: Key
    note: MotionNote
    frames: int


class LiveMoving(Moving):
    """Every frame at once, with the newest logits carried to it.

    The network takes the newest frame whenever it is done with the one before. Where there is
    nothing to carry, at the first frame and at one that nothing explains, this frame and those that
    come meanwhile wait for it.
    """

    def __init__(self, segmenter: Carrying, motion: Motion) -> None:
        """Begin."""
        super().__init__(segmenter, motion, live=True)
        self._network = ThreadPoolExecutor(1, "segedge-network")
        self._looking: Future[_Looked] | None = None
        self._since_asked = 0
        self._waiting: list[Held] = []
        """Frames of a new scene; the network has the first of them."""
        self._first: Future[Any] | None = None

    def push(self, frame: Frame, outputs: Iterable[str]) -> Iterator[Shown]:
        """Take the next frame; gives it back, or all that wait, or keeps it for the next time."""
        wanted = tuple(outputs)
        if self._begins_anew(frame):
            yield from self._finish(wanted)
            self._key = None
        yield from self._take(self._see(frame), wanted)

    def close(self) -> None:
        """End the threads; a frame in the network is given up."""
        self._waiting.clear()
        self._network.shutdown(cancel_futures=True)
        super().close()

    def _take(self, held: Held, outputs: tuple[str, ...]) -> Iterator[Shown]:
        if self._first is not None:
            self._waiting.append(held)
            if self._first.done() or len(self._waiting) > _MOST_WAITING:
                yield from self._open_scene(self._first, outputs)
            return
        self._adopt()
        source = None if self._key is None else self._follow(held)
        if source is None or source.field.explained < LEAST_EXPLAINED:
            self._start_scene(held)
            return
        shown = self._carried(held, source, outputs)
        self._ask(held, source)
        yield shown

    def _start_scene(self, held: Held) -> None:
        """What was known is of no use: the frame itself goes through the network."""
        self._looking = None
        self._key = None
        self._passed.clear()
        self._pace.new_scene()
        self._since_asked = 0
        self._waiting = [held]
        self._first = self._network.submit(self._segmenter.look, held.frame)

    def _open_scene(self, first: Future[Any], outputs: tuple[str, ...]) -> Iterator[Shown]:
        """The frame that the network had, and those that came meanwhile."""
        held, *others = self._waiting
        self._waiting, self._first = [], None
        logits = first.result()
        self._note_key(held)
        self._key = Key(held, self._keep(held.frame, logits))
        yield held.frame, self._segmenter.show(held.frame, logits, outputs)
        for other in others:
            yield from self._take(other, outputs)

    def _finish(self, outputs: tuple[str, ...]) -> Iterator[Shown]:
        while self._first is not None:
            yield from self._open_scene(self._first, outputs)
        self._looking = None
        yield from super()._finish(outputs)

    def _ask(self, held: Held, source: Source) -> None:
        """Hand the frame to the network, if that is idle and it is time."""
        self._since_asked += 1
        if self._looking is not None or self._since_asked < self._pace.distance(self._fps):
            return
        self._since_asked = 0
        self._looking = self._network.submit(self._look, held, source)

    def _look(self, held: Held, source: Source) -> _Looked:
        """In the network's thread. The frame is on its way to the sinks: its times stay its own."""
        frame = dataclasses.replace(held.frame, times=StageTimes())
        logits = self._segmenter.look(frame)
        found = self._segmenter.agree(frame, source, logits)
        if self._motion.fuse:
            logits = self._segmenter.fuse(frame, source, logits)
        self.summary.network(frame.times.total())
        note = MotionNote(True, agreement=found.clear, agreement_all=found.everywhere)
        key = Key(held, self._segmenter.keep(frame, logits))
        return _Looked(key, note, round(source.frames))

    def _adopt(self) -> None:
        """Take the newest key, if the network is done with it."""
        if self._looking is None or not self._looking.done():
            return
        looked, self._looking = self._looking.result(), None
        self._key = looked.key
        place = next(n for n, seen in enumerate(self._passed, 1) if seen is looked.key.held.seen)
        del self._passed[:place]
        self.summary.key(looked.note, shown=False)
        self._pace.measured(looked.note.agreement, looked.frames)
