"""Moving: the frames of one video through a network that sees some of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from segedge.frames.closing import check_open
from segedge.frames.frame import Frame, MotionNote
from segedge.machine.processors import usable_processors
from segedge.motion.agreement import Agreement
from segedge.motion.field import MotionField
from segedge.motion.pace import Pace
from segedge.motion.summary import MotionSummary
from segedge.motion.track import Seen, Tracker
from segedge.options.motion import MOST_HELD, Motion
from segedge.segment.helpers import Helpers
from segedge.segment.result import Result

LEAST_EXPLAINED = 0.5
"""Share of a picture that the motion must explain; a frame below it begins a new scene."""
_MOST_HELPERS = 2
"""Flow is single-threaded: that of several frames is found at the same time, as two are drawn."""

Shown = tuple[Frame, Result]
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A key frame that logits are carried from."""

    logits: Any
    """As `Carrying.keep` made them."""
    field: MotionField
    """From the frame that they are carried to."""
    frames: float
    """How far apart both are, above 0."""


class Carrying(Protocol):
    """A segmenter whose frames can get the logits of others; on the CPU or on a GPU."""

    def beside(self) -> Sequence[Carrying]:
        """Those that carry, compare and show frames at the same time, each in a thread; or none."""

    def end(self) -> None:
        """End the threads of one that came from `beside`; its results stay usable."""

    def look(self, frame: Frame) -> Any:
        """The frame through the network."""

    def keep(self, frame: Frame, logits: Any) -> Any:
        """A key's logits, to be carried from."""

    def carry(self, frame: Frame, sources: Sequence[Source]) -> Any:
        """The logits of a frame from one key or two."""

    def agree(self, frame: Frame, source: Source, logits: Any) -> Agreement:
        """How far the network's logits are what carrying would have said."""

    def fuse(self, frame: Frame, source: Source, logits: Any) -> Any:
        """The network's logits, leaning on the carried ones where `Motion.fuse` says so."""

    def show(self, frame: Frame, logits: Any, outputs: Iterable[str]) -> Result:
        """The result of a frame by its logits."""


@dataclass
class Held:
    """A frame with what is known of its motion."""

    frame: Frame
    seen: Seen
    to_key: Future[MotionField] | None = None
    """Its motion to the key before it."""


@dataclass
class Key:
    """A key frame."""

    held: Held
    logits: Any


class Moving:
    """One video's frames, in order: `push` each, `end` at its end. One thread at a time.

    Files (``live`` false): frames between two keys wait for the second and are interpolated. Live:
    every frame is shown at once, from the key before it.
    """

    def __init__(self, segmenter: Carrying, motion: Motion, *, live: bool) -> None:
        """Begin."""
        self._segmenter, self._motion, self._live = segmenter, motion, live
        self._tracker = Tracker(motion.source, is_file=not live)
        self._pace = Pace(motion, most=None if live else MOST_HELD)
        helpers = max(1, min(_MOST_HELPERS, usable_processors() - 1))
        self._helpers = Helpers(helpers, "segedge-motion")
        self._hands: SimpleQueue[Carrying] = SimpleQueue()
        """Of those beside the segmenter, the idle ones; for files alone."""
        for hand in () if live else segmenter.beside():
            self._hands.put(hand)
        self._has_hands = not self._hands.empty()
        self._key: Key | None = None
        self._between: list[Held] = []
        """Frames of a file that wait for the next key."""
        self._drawn: deque[tuple[Held, Callable[[], Result]]] = deque()
        """Frames of a file that are being drawn."""
        self._measuring: tuple[Held, Source, Callable[[], Agreement]] | None = None
        """The last key, while it is compared."""
        self._passed: list[Seen] = []
        """What is kept of live frames that have passed since the key."""
        self._size: tuple[int, int] | None = None
        self._seconds: float | None = None
        self._frame_seconds: float | None = None
        self._is_closed = False
        self.summary = MotionSummary()

    def push(self, frame: Frame, outputs: Iterable[str]) -> Iterator[Shown]:
        """Take the next frame; gives those that are done, in order."""
        wanted = tuple(outputs)
        if self._begins_anew(frame):
            yield from self._finish(wanted)
            self._key = None
        held = self._see(frame)
        if self._key is None:
            self._pace.new_scene()
            yield self._become_key(held, wanted)
            return
        if self._live:
            yield self._live_step(held, wanted)
        else:
            self._between.append(held)
            held.to_key = self._motion_to_key(len(self._between))
            yield from self._file_step(wanted)

    def end(self, outputs: Iterable[str] = ()) -> Iterator[Shown]:
        """The video has ended: the frames that still wait, the last of them through the network."""
        if self._is_closed:
            return
        yield from self._finish(tuple(outputs))
        self.close()

    def close(self) -> None:
        """End the threads; frames that wait are given up."""
        self._is_closed = True
        self._between.clear()
        self._drawn.clear()
        self._helpers.close()
        while not self._hands.empty():
            self._hands.get().end()

    def _begins_anew(self, frame: Frame) -> bool:
        """Whether size or time leap: another scene, or another video."""
        check_open(not self._is_closed, "this video's motion", fix="segmenter.moving() begins anew")
        before, self._seconds = self._seconds, frame.pts_seconds
        size, self._size = self._size, frame.size
        if size is not None and size != frame.size:
            return True
        if before is None or frame.pts_seconds is None:
            return False
        passed = frame.pts_seconds - before
        if passed <= 0.0 or passed > self._motion.gap_seconds:
            return True
        self._frame_seconds = passed
        return False

    def _file_step(self, outputs: tuple[str, ...]) -> Iterator[Shown]:
        """For each frame that comes one goes, as long as some are being drawn."""
        if self._drawn:
            yield self._next_drawn()
        self._settle()
        distance = self._pace.distance(self._fps)
        while len(self._between) >= distance:
            yield from self._close(outputs)
            self._settle()

    def _live_step(self, held: Held, outputs: tuple[str, ...]) -> Shown:
        source = self._follow(held)
        if source.field.explained < LEAST_EXPLAINED:
            self._pace.new_scene()
            return self._become_key(held, outputs)
        if len(self._passed) >= self._pace.distance(self._fps):
            return self._become_key(held, outputs, source)
        return self._carried(held, source, outputs)

    def _follow(self, held: Held) -> Source:
        """The key as a live frame sees it, which has come after it."""
        assert self._key is not None, "asked for where there is one"
        self._passed.append(held.seen)
        frames = len(self._passed)
        with held.frame.times.measure("motion"):
            field = self._tracker.field([self._key.held.seen, *self._passed], frames, 0)
        return Source(self._key.logits, field, frames)

    def _finish(self, outputs: tuple[str, ...]) -> Iterator[Shown]:
        while self._between:
            yield from self._close(outputs)
        yield from self._all_drawn()
        self._passed.clear()
        self.summary.codec(self._tracker.asked, self._tracker.answered)

    def _close(self, outputs: tuple[str, ...]) -> Iterator[Shown]:
        """The frames that wait, up to the last or the first of a new scene, which is a key.

        They are drawn from now on, and given one for each frame that comes; at once where nobody
        draws beside. What was drawn before them is given first.
        """
        yield from self._all_drawn()
        with self._between[-1].frame.times.measure("motion"):
            number = self._first_unexplained()
        cut = number is not None
        last = len(self._between) if number is None else number + 1
        run, rest = self._between[:last], self._between[last:]
        before, after = self._key, run.pop()
        assert before is not None, "frames wait for a key after another"
        looked = logits = self._segmenter.look(after.frame)
        to_after = [] if cut else self._motions_to(after, run)
        source = None if cut else self._from_key(after, len(run) + 1)
        if source is not None:
            logits = self._fused(after, source, looked)
        kept = self._keep(after.frame, logits)
        if source is not None:
            self._measuring = after, source, self._do(partial(_agree, after.frame, source, looked))
        for place, held in enumerate(run):
            ways = [_Way(before.logits, _future_of(held), place + 1)]
            if to_after:
                ways.append(_Way(kept, to_after[place], len(run) - place))
            self._note_carried(held, before, min(way.frames for way in ways))
            self._drawn.append((held, self._do(partial(_carry, held.frame, ways, outputs))))
        self._drawn.append((after, self._do(partial(_show, after.frame, logits, outputs))))
        self._between, self._key = rest, Key(after, kept)
        for place, held in enumerate(rest, 1):
            held.to_key = self._motion_to_key(place)
        if cut:
            self._pace.new_scene()
        if not self._has_hands:
            yield from self._all_drawn()

    def _settle(self) -> None:
        """Wait until it is known how well carrying has foretold the last key."""
        if self._measuring is not None:
            held, source, found = self._measuring
            self._measuring = None
            self._note_measured(held, source, found())

    def _all_drawn(self) -> Iterator[Shown]:
        while self._drawn:
            yield self._next_drawn()

    def _next_drawn(self) -> Shown:
        self._settle()
        held, result = self._drawn.popleft()
        self._note_key(held)
        return held.frame, result()

    def _motions_to(self, after: Held, run: list[Held]) -> list[Future[MotionField]]:
        """Those of frames between two keys to the later one."""
        chain = [held.seen for held in (*run, after)]
        places = reversed(range(len(run)))  # each begins with what the next one needs
        return [self._submit(chain, place, len(run)) for place in places][::-1]

    def _do(self, task: Callable[[Carrying], T]) -> Callable[[], T]:
        """Begin a task, if there are hands for it; what comes of it, when that is asked for."""
        if not self._has_hands:
            return partial(task, self._segmenter)
        return partial(self._helpers.wait, self._helpers.begin(self._by_a_hand, task))

    def _by_a_hand(self, task: Callable[[Carrying], T]) -> T:
        hand = self._hands.get()
        try:
            return task(hand)
        finally:
            self._hands.put(hand)

    def _see(self, frame: Frame) -> Held:
        with frame.times.measure("motion"):
            held = Held(frame, self._tracker.see(frame))
            if self._live or self._key is None:  # given out before its motion is asked for
                held.seen.prepare()
        self.summary.codec(self._tracker.asked, self._tracker.answered)
        return held

    def _carried(self, held: Held, source: Source, outputs: tuple[str, ...]) -> Shown:
        """A live frame, from the key before it."""
        assert self._key is not None
        with held.frame.times.measure("motion"):
            logits = self._segmenter.carry(held.frame, [source])
        self._note_carried(held, self._key, round(source.frames))
        return held.frame, self._segmenter.show(held.frame, logits, outputs)

    def _note_carried(self, held: Held, before: Key, nearest: int) -> None:
        age_ns = held.frame.captured_ns - before.held.frame.captured_ns
        held.frame.motion = MotionNote(False, nearest, age_ns / 1e6)
        self.summary.carried(held.frame.motion)

    def _become_key(
        self, held: Held, outputs: tuple[str, ...], source: Source | None = None
    ) -> Shown:
        """The frame goes through the network, and the next ones come after it."""
        logits = self._segmenter.look(held.frame)
        if source is not None:
            with held.frame.times.measure("motion"):
                found = self._segmenter.agree(held.frame, source, logits)
            self._note_measured(held, source, found)
            logits = self._fused(held, source, logits)
        self._note_key(held)
        self._key = Key(held, self._keep(held.frame, logits))
        self._passed.clear()
        return held.frame, self._segmenter.show(held.frame, logits, outputs)

    def _keep(self, frame: Frame, logits: Any) -> Any:
        with frame.times.measure("motion"):
            return self._segmenter.keep(frame, logits)

    def _note_measured(self, held: Held, source: Source, found: Agreement) -> None:
        held.frame.motion = MotionNote(True, agreement=found.clear, agreement_all=found.everywhere)
        self.summary.key(held.frame.motion)
        self._pace.measured(found.clear, round(source.frames))

    def _fused(self, held: Held, source: Source, logits: Any) -> Any:
        """A key frame's logits, leaning on the past where that is wanted."""
        if not self._motion.fuse:
            return logits
        with held.frame.times.measure("motion"):
            return self._segmenter.fuse(held.frame, source, logits)

    def _note_key(self, held: Held) -> None:
        if held.frame.motion is None:
            held.frame.motion = MotionNote(True)
            self.summary.key(held.frame.motion)

    def _from_key(self, held: Held, frames: int) -> Source:
        assert self._key is not None
        return Source(self._key.logits, self._to_key(held), frames)

    def _first_unexplained(self) -> int | None:
        for number, held in enumerate(self._between):
            if self._to_key(held).explained < LEAST_EXPLAINED:
                return number
        return None

    def _to_key(self, held: Held) -> MotionField:
        return self._helpers.wait(_future_of(held))

    def _motion_to_key(self, place: int) -> Future[MotionField]:
        assert self._key is not None
        chain = [self._key.held.seen, *(held.seen for held in self._between[:place])]
        return self._submit(chain, place, 0)

    def _submit(self, chain: list[Seen], start: int, end: int) -> Future[MotionField]:
        return self._helpers.begin(self._tracker.field, chain, start, end)

    @property
    def _fps(self) -> float | None:
        return None if not self._frame_seconds else 1.0 / self._frame_seconds


@dataclass(frozen=True)
class _Way:
    """A `Source` whose motion is still being found."""

    logits: Any
    motion: Future[MotionField]
    frames: int

    def found(self) -> Source:
        """It, once that is done."""
        return Source(self.logits, self.motion.result(), self.frames)


def _carry(frame: Frame, ways: Sequence[_Way], outputs: tuple[str, ...], by: Carrying) -> Result:
    with frame.times.measure("motion"):
        logits = by.carry(frame, [way.found() for way in ways])
    return by.show(frame, logits, outputs)


def _agree(frame: Frame, source: Source, logits: Any, by: Carrying) -> Agreement:
    with frame.times.measure("motion"):
        return by.agree(frame, source, logits)


def _show(frame: Frame, logits: Any, outputs: tuple[str, ...], by: Carrying) -> Result:
    return by.show(frame, logits, outputs)


def _future_of(held: Held) -> Future[MotionField]:
    assert held.to_key is not None, "asked for when the frame came"
    return held.to_key
