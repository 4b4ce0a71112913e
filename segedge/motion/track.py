"""Track: the frames of a video since a key, and the motion between any two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segedge.card.geometry import Size
from segedge.frames.frame import Frame
from segedge.motion.chain import Displacement, composed, turned_around
from segedge.motion.field import MotionField
from segedge.motion.flow import Flow
from segedge.motion.grey import Grey, field_between, grey_of
from segedge.motion.vectors import neighbour_motion
from segedge.options.motion import MotionSource


@dataclass(frozen=True)
class Seen:
    """What is kept of a frame to find motion: a small grey image, not the frame."""

    grey: Grey
    frame: Size
    to_before: Displacement | None = None
    """By the codec, from the frame to the one before it; None where it says nothing."""


class Tracker:
    """Sees the frames of one video in order. `field` may be asked by several threads."""

    def __init__(self, source: MotionSource) -> None:
        """Begin; ``auto`` is flow, which sees more than an encoder needs."""
        self._asks_codec = source == "codec"
        self._flow = Flow()
        self._before: Seen | None = None
        self.asked = 0
        """Frames of which the codec was asked for vectors."""
        self.answered = 0
        """Those of which it had some."""

    def see(self, frame: Frame) -> Seen:
        """Take the next frame."""
        grey, size, before = grey_of(frame.image_hwc), Size(*frame.size), self._before
        motion: Displacement | None = None
        if self._asks_codec and before is not None and before.frame == size:
            self.asked += 1
            if frame.motion_vectors is not None and frame.motion_vectors.size:
                motion = neighbour_motion(frame.motion_vectors, size, grey, before.grey)
            self.answered += motion is not None
        frame.motion_vectors = None
        self._before = Seen(grey, size, motion)
        return self._before

    def field(self, frames: Sequence[Seen], start: int, end: int) -> MotionField:
        """The motion from frame ``start`` of consecutive frames to frame ``end``, either way.

        By the codec's vectors where all frames between have some, else by optical flow.
        """
        first, last = min(start, end), max(start, end)
        steps = [seen.to_before for seen in frames[last:first:-1]]
        here, there = frames[start], frames[end]
        if not steps or any(step is None for step in steps):
            return self._flow.field(here.grey, there.grey, here.frame)
        back = steps[0]
        for step in steps[1:]:
            back = composed(back, step, here.frame)  # type: ignore[arg-type]
        moved = back if start > end else turned_around(back, here.frame)  # type: ignore[arg-type]
        return field_between(np.asarray(moved, np.float32), here.grey, there.grey, here.frame)
