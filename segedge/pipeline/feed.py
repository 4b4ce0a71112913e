"""Feed: one source's frames through the segmenter, at once or when their key frames are there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, Protocol

from segedge.drift.watch import DriftWatch
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.motion.summary import MotionSummary
from segedge.pipeline.ledger import Job

_numbers: dict[int, set[int]] = {}
"""Of each segmenter in use, by its id: the numbers of its videos."""
_numbering = threading.RLock()
"""Reentrant: the garbage collector may free a feed at any time."""


class FrameSegmenter(Protocol):
    """What turns a frame into a result; `segedge.segment.segmenter.Segmenter` is one.

    Results must own their arrays: sinks read them while the next frames are computed.
    """

    def __call__(self, frame: Frame, /, *, outputs: frozenset[str]) -> ResultView:
        """Segment one frame.

        Args:
            frame: The frame; stage times are added to ``frame.times``.
            outputs: What the sinks will read, to be computed here and not in their threads.
        """


class FrameMoving(Protocol):
    """Takes the frames of one video and gives them back, in order, some later than others.

    `segedge.segment.moving.Moving` is one; a segmenter makes it by its ``moving``.
    """

    summary: MotionSummary

    def push(self, frame: Frame, outputs: Iterable[str]) -> Iterator[tuple[Frame, Any]]:
        """Take the next frame; gives those that are done."""

    def end(self, outputs: Iterable[str]) -> Iterator[tuple[Frame, Any]]:
        """The rest."""

    def close(self) -> None:
        """Give up what waits."""


class Feed:
    """The jobs of one source, in order. One thread at a time."""

    def __init__(
        self, segmenter: FrameSegmenter, outputs: frozenset[str], *, live: bool, is_sequence: bool
    ) -> None:
        """Begin; frames that are no sequence have no motion."""
        self._segmenter, self._outputs = segmenter, outputs
        with _numbering:
            taken = _numbers.setdefault(id(segmenter), set())
            self.stream = next(number for number in count() if number not in taken)
            """`Frame.stream` of its frames: no other video has it that the segmenter is shown
            meanwhile."""
            taken.add(self.stream)
        self._is_closed = False
        make = getattr(segmenter, "moving", None)
        self._moving: FrameMoving | None = make(live=live) if make and is_sequence else None
        self._waiting: deque[Job] = deque()
        familiar, card = (getattr(segmenter, name, None) for name in ("familiar", "card"))
        self.drift = None if familiar is None or card is None else DriftWatch(card, familiar)
        """How the frames compare with those that the network knows; None where it does not say."""

    @property
    def motion(self) -> MotionSummary | None:
        """What key frames and carried frames amounted to; None without motion."""
        return None if self._moving is None else self._moving.summary

    def own_ms(self, compute_ms: float) -> float:
        """What a job is known to have taken by the time until it was done, beside its stages.

        Nothing with motion: a frame that waits for its key frame would be charged with the key's.
        """
        return compute_ms if self._moving is None else 0.0

    def push(self, job: Job) -> Iterator[tuple[Job, ResultView]]:
        """Compute; gives the jobs that are done, each as soon as it is."""
        if self._moving is None:
            yield job, self._segmenter(job.frame, outputs=self._outputs)
            return
        self._waiting.append(job)
        yield from self._done(self._moving.push(job.frame, self._outputs))

    def end(self) -> Iterator[tuple[Job, ResultView]]:
        """The source has ended: the jobs that still wait."""
        if self._moving is not None:
            yield from self._done(self._moving.end(self._outputs))

    def close(self) -> None:
        """Give up the jobs that wait."""
        self._waiting.clear()
        if self._moving is not None:
            self._moving.close()
        self._free_number()

    def __del__(self) -> None:
        self._free_number()  # a loop was left without close()

    def _free_number(self) -> None:
        with _numbering:
            if getattr(self, "_is_closed", True):  # not even begun
                return
            self._is_closed = True
            taken = _numbers[id(self._segmenter)]
            taken.remove(self.stream)
            if not taken:
                del _numbers[id(self._segmenter)]

    def _done(self, shown: Iterator[tuple[Frame, Any]]) -> Iterator[tuple[Job, ResultView]]:
        for frame, result in shown:
            job = self._waiting.popleft()
            assert job.frame is frame, "frames keep their order"
            del frame
            yield job, result
