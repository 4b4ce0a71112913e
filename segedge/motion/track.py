"""Track: the frames of a video since a key, and the motion between any two of them.

It is found from each frame to the one before, and put one step behind the other. That is better
than the motion found over the whole distance (with the network on every sixth frame by 1.7 points
of mIoU on CamVid and 3.5 on the demo clip), and a frame between two keys takes one step, where it
would take two motions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.frames.frame import Frame
from segedge.motion.chain import composed, turned_around
from segedge.motion.field import Displacement, MotionField
from segedge.motion.flow import COARSE, FINE, Flow
from segedge.motion.grey import Grey, judged
from segedge.motion.vectors import vector_step
from segedge.options.motion import MotionSource


class _Later:
    """The grey image of a frame, made when it is first asked for."""

    def __init__(self, image_hwc: NDArray[np.uint8]) -> None:
        self.frame = Size(*image_hwc.shape[:2])
        self._image: NDArray[np.uint8] | None = image_hwc
        self._lock = Lock()
        self._grey: Grey | None = None

    def get(self) -> Grey:
        with self._lock:
            if self._grey is None:
                assert self._image is not None, "it is let go when the grey image is made"
                self._grey, self._image = Grey.of(self._image), None
            return self._grey


class Seen:
    """What is kept of a frame to find motion: small images and its step, not the frame.

    Its methods may be called by several threads; what one has found the others have, too.
    """

    def __init__(
        self,
        grey: _Later,
        before: _Later | None,
        by_codec: Callable[[Grey, Grey], Displacement | None] | None = None,
    ) -> None:
        """``by_codec`` is asked for the step to the frame before, and flow where it has none."""
        self._grey, self._before, self._by_codec = grey, before, by_codec
        self._lock = Lock()
        self._back: Displacement | None = None
        self._forth: Displacement | None = None

    @property
    def grey(self) -> Grey:
        """Its grey image; until it is asked for, the frame is held."""
        return self._grey.get()

    def prepare(self) -> None:
        """Let go of the frame: who gets it may draw on it."""
        self._grey.get()

    def to_before(self, flow: Flow) -> Displacement:
        """The motion to the frame before it."""
        with self._lock:
            if self._back is None:
                assert self._before is not None, "the first frame has none before it"
                here, there, ask = self.grey, self._before.get(), self._by_codec
                found = None if ask is None else ask(here, there)
                self._back = flow.step(here, there) if found is None else found
            self._before = self._by_codec = None
            return self._back

    def from_before(self, flow: Flow) -> Displacement:
        """The motion to it, from the frame before."""
        back = self.to_before(flow)
        with self._lock:
            if self._forth is None:
                self._forth = turned_around(back, self._grey.frame)
            return self._forth


class Tracker:
    """Sees the frames of one video in order. `field` may be asked by several threads."""

    def __init__(self, source: MotionSource, *, is_file: bool = False) -> None:
        """Begin; ``auto`` is flow, which sees more than an encoder needs.

        In a file frames lie between two keys, and the flow may be coarser.
        """
        self._asks_codec = source == "codec"
        self._flow = Flow(COARSE if is_file else FINE)
        self._before: _Later | None = None
        self._sums = _Sums()
        self.asked = 0
        """Frames of which the codec was asked for vectors, as their motion was needed."""
        self.answered = 0
        """Those of which it had some."""
        self._lock = Lock()

    def see(self, frame: Frame) -> Seen:
        """Take the next frame; its pixels must stay as they are until its motion is asked for."""
        grey, before = _Later(frame.image_hwc), self._before
        if before is not None and before.frame != grey.frame:
            before = None
        vectors, frame.motion_vectors = frame.motion_vectors, None
        self._before = grey
        if not self._asks_codec or before is None:
            return Seen(grey, before)
        return Seen(grey, before, partial(self._by_codec, vectors))

    def _by_codec(
        self, vectors: NDArray[Any] | None, here: Grey, there: Grey
    ) -> Displacement | None:
        step = None
        if vectors is not None and vectors.size:
            step = vector_step(vectors, here, there)
        with self._lock:
            self.asked += 1
            self.answered += step is not None
        return step

    def field(self, frames: Sequence[Seen], start: int, end: int) -> MotionField:
        """The motion from frame ``start`` of consecutive frames to frame ``end``, either way.

        By the codec's vectors where a frame has some, else by optical flow.
        """
        here, there = frames[start].grey, frames[end].grey
        if start == end:
            return MotionField.still(here.frame)
        return judged(self._sum(frames, start, end), here, there)

    def _sum(self, frames: Sequence[Seen], start: int, end: int) -> Displacement:
        """The first step, and from where it leads the sum of the others, if that is known."""
        if start > end:
            step, then = frames[start].to_before(self._flow), start - 1
        else:
            step, then = frames[start + 1].from_before(self._flow), start + 1
        if then == end:
            found = step
        else:
            rest = self._sums.get(frames[then], frames[end])
            if rest is None:
                rest = self._sum(frames, then, end)
            found = composed(step, rest, frames[start].grey.frame)
        self._sums.keep(frames[start], frames[end], found)
        return found


class _Sums:
    """The latest sums of steps, by the frames at their ends: the next one begins with one."""

    _MOST = 32
    """More than any two keys of a file hold between them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: dict[tuple[int, int], tuple[Seen, Seen, Displacement]] = {}

    def get(self, start: Seen, end: Seen) -> Displacement | None:
        with self._lock:
            found = self._found.get((id(start), id(end)))
        return None if found is None else found[2]

    def keep(self, start: Seen, end: Seen, motion: Displacement) -> None:
        """It holds both frames, so that no other can have their place in memory."""
        with self._lock:
            self._found[id(start), id(end)] = start, end, motion
            while len(self._found) > self._MOST:
                del self._found[next(iter(self._found))]
