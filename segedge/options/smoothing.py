"""Smoothing: how the logits of a video are steadied over time, and the streams that they are from.

What exactly is done with a frame stands in `segedge.reference.smoothing`. This file holds what the
CPU and the GPU share: the settings, and which frame follows which.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from segedge.card.card import ModelCard
from segedge.errors import UsageError
from segedge.frames.frame import Frame

NOMINAL_SECONDS = 0.04
"""What `Smoothing.strength` refers to, and the time between frames that do not tell theirs."""
LONGEST_GAP_SECONDS = 1.0
"""Frames further apart start afresh."""
FINER = 2
"""Cells of the guide image a grid point and axis: a thin thing that moves must not drown in the
mean of a whole block."""
TAPS = 2
"""Samples of the network's input a cell and axis, at most."""
CUT_TOLERANCES = 2.0
CUT_SHARE = 0.5
"""A scene change: more than this share of the grid differs by more than so many tolerances."""
STILL_LEVELS = 4.0
"""Grey levels below which the image counts as still, for the flicker figure."""
MOST_LOGIT = 1e4
"""A grid point with a NaN or a larger logit is left as it is and has no past."""
WARM_UP = -1
"""Stream of the blank frames that warm a segmenter up; its past is forgotten."""
STREAMS_KEPT = 64
"""Streams whose past is kept; the one that was silent for longest is forgotten."""

State = TypeVar("State")


@dataclass(frozen=True)
class Smoothing:
    """How strongly each logit leans on its past.

    The past counts only where the image is as it was and the network is unsure.
    """

    strength: float = 0.9
    """Share of the past after 1/25 s where the image is still and the best two classes are level;
    0 <= strength < 1. At another rate the share is ``strength ** (25 * seconds)``."""
    tolerance: float = 8.0
    """Grey levels (0..255) by which the image may differ from the past's before that is dropped:
    above sensor noise, below the contrast of objects that matter."""
    margin: float = 32.0
    """Lead of the best logit over the second best that halves the past's share: confident new
    logits replace the past sooner."""
    flicker: bool = False
    """Whether to count how often labels change where the image does not, with and without."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength < 1.0:  # NaN, too
            raise UsageError(
                "the strength of smoothing must be at least 0 and below 1",
                facts={"found": f"{self.strength:g}"},
                fix=f"--smooth {Smoothing.strength}",
            )
        for name in ("tolerance", "margin"):
            value = getattr(self, name)
            if not (value > 0.0 and math.isfinite(value)):
                raise UsageError(
                    f"the {name} of smoothing must be above 0", facts={"found": f"{value:g}"}
                )

    @property
    def is_off(self) -> bool:
        """Whether the logits stay as they are."""
        return self.strength == 0.0

    def check(self, card: ModelCard) -> None:
        """Raise UsageError where the network gives labels: there is nothing to smooth."""
        if card.head == "labels":
            raise UsageError(
                "a network that gives labels cannot be smoothed",
                facts={"needed": "logits"},
                fix="export it again without its argmax, or leave the smoothing out",
            )

    def kept(self, seconds: float) -> float:
        """Most of the past's share after this time."""
        return float(self.strength ** (seconds / NOMINAL_SECONDS))


@dataclass(frozen=True)
class Changes:
    """How often the labels of still points changed from one frame to the next."""

    changed: int = 0
    """Points with another label than in the frame before."""
    returned: int = 0
    """Those of them that are back at the label of two frames before: flicker that is no motion."""


@dataclass(frozen=True)
class Flicker:
    """Labels that changed where the image did not, at the points of the logit grid."""

    still: int = 0
    """Points, summed over pairs of consecutive frames, around which the image was still: no cell
    of the guide in the point or its eight neighbours changed by `STILL_LEVELS` grey levels."""
    before: Changes = Changes()
    """By the network's own logits."""
    after: Changes = Changes()
    """By the smoothed ones."""

    def shares(self) -> dict[str, float] | None:
        """Shares of the still points, 0..1: changed and returned, before and after smoothing.

        None where nothing was still.
        """
        if not self.still:
            return None
        return {
            "changed_before": self.before.changed / self.still,
            "changed": self.after.changed / self.still,
            "returned_before": self.before.returned / self.still,
            "returned": self.after.returned / self.still,
        }


@dataclass(frozen=True)
class Step:
    """How one frame follows the one before it."""

    kept: float
    """Most of the past's share."""
    afresh: bool
    """Whether there is no past: the first frame, another size, a step back, a long gap."""


@dataclass
class _Stream(Generic[State]):
    """One stream's state and where it stands."""

    state: State
    index: int = 0
    pts_seconds: float | None = None
    size: tuple[object, ...] = ()


class Streams(Generic[State]):
    """The states of several streams, by `Frame.stream`; the ones in use are kept."""

    def __init__(self, smoothing: Smoothing, make: Callable[[], State]) -> None:
        """Start without any."""
        self._smoothing = smoothing
        self._make = make
        self._streams: OrderedDict[int, _Stream[State]] = OrderedDict()

    def step(self, frame: Frame, number: int, size: tuple[object, ...]) -> tuple[State, Step]:
        """The state that a frame of a stream continues, and how.

        Its index and presentation time tell; a frame of another size starts afresh.
        """
        stream = self._streams.get(number)
        if stream is None:
            stream = self._streams[number] = _Stream(self._make())
            if len(self._streams) > STREAMS_KEPT:
                self._streams.popitem(last=False)
        self._streams.move_to_end(number)
        seconds = self._seconds(stream, frame, size)
        stream.index, stream.pts_seconds, stream.size = frame.index, frame.pts_seconds, size
        if seconds is None:
            return stream.state, Step(0.0, True)
        return stream.state, Step(self._smoothing.kept(seconds), False)

    def _seconds(
        self, stream: _Stream[State], frame: Frame, size: tuple[object, ...]
    ) -> float | None:
        """Time since the frame before, or None where this one does not follow it."""
        if stream.size != size or frame.index < stream.index:
            return None
        if frame.pts_seconds is None or stream.pts_seconds is None:
            return NOMINAL_SECONDS
        seconds = frame.pts_seconds - stream.pts_seconds
        return seconds if 0.0 < seconds <= LONGEST_GAP_SECONDS else None

    def get(self, number: int) -> State | None:
        """A stream's state, or None where it has none."""
        stream = self._streams.get(number)
        return None if stream is None else stream.state

    def reset(self, number: int) -> None:
        """Forget a stream."""
        self._streams.pop(number, None)

    def clear(self) -> None:
        """Forget all."""
        self._streams.clear()
