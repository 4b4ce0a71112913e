"""LiveMoving: frames at the camera's rate; the network works at its own, in its own thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from segedge.frames.frame import Frame, MotionNote
from segedge.frames.timing import StageTimes
from segedge.options.motion import Motion
from segedge.segment.moving import LEAST_EXPLAINED, Carrying, Held, Key, Moving, Shown, Source


@dataclass
class _Looked:
    """What the network's thread has made of a frame."""

    key: Key
    note: MotionNote
    frames: int


class LiveMoving(Moving):
    """Every frame at once, with the newest logits carried to it.

    The network takes the newest frame whenever it is done with the one before. It is waited for
    only where there is nothing to carry: at the first frame, and at one that nothing explains.
    """

    def __init__(self, segmenter: Carrying, motion: Motion) -> None:
        """Begin."""
        super().__init__(segmenter, motion, live=True)
        self._network = ThreadPoolExecutor(1, "segedge-network")
        self._looking: Future[_Looked] | None = None
        self._since_asked = 0

    def push(self, frame: Frame, outputs: Iterable[str]) -> Iterator[Shown]:
        """Take the next frame and give it back."""
        wanted = tuple(outputs)
        anew = self._begins_anew(frame)
        held = self._see(frame)
        self._adopt()
        if anew or self._key is None:
            yield self._start_scene(held, wanted)
            return
        source = self._follow(held)
        if source.field.explained < LEAST_EXPLAINED:
            yield self._start_scene(held, wanted)
            return
        shown = self._carried(held, [source], wanted)
        self._ask(held, source)
        yield shown

    def close(self) -> None:
        """End the threads; a frame in the network is given up."""
        self._network.shutdown(cancel_futures=True)
        super().close()

    def _start_scene(self, held: Held, outputs: tuple[str, ...]) -> Shown:
        """What was known is of no use: the frame itself goes through the network, waited for."""
        if self._looking is not None:
            self._looking.exception()  # it has the network
            self._looking = None
        self._passed.clear()
        self._pace.new_scene()
        self._since_asked = 0
        return self._become_key(held, outputs)

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
