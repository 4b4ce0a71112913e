"""The seams of the pipeline: what a source is, what a sink is, what a sink may ask of a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb
from segedge.frames.frame import Frame

SourceKind = Literal["images", "video", "memory"]

_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class PixelTags:
    """What a video says of its pixels beside their values."""

    primaries: int = 2
    """In the numbers of ITU-T H.273; 2: not said."""
    transfer: int = 2
    """Transfer characteristics in the numbers of ITU-T H.273; 2: not said."""
    aspect: Fraction = Fraction(1)
    """Width of a pixel by its height in the upright file; frames have square ones."""

    @property
    def hdr(self) -> str:
        """``PQ`` or ``HLG`` for high dynamic range, else empty."""
        return _HDR.get(self.transfer, "")


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before its first frame."""

    name: str
    """The path, pattern or address it was opened with."""
    kind: SourceKind
    """``images``: frames have file names; ``video``: frames have times; ``memory``: arrays."""
    size: tuple[int, int] | None = None
    """(height, width) of the first frame as it is shown, or None where that is not known yet."""
    fps: float | None = None
    """Nominal frames a second, or None for still images."""
    frame_count: int | None = None
    """Frames to come, as declared or estimated from the duration; None where unknown."""
    live: bool = False
    """Whether frames come at their own pace and are lost when nobody takes them."""
    tags: PixelTags = PixelTags()
    """What a video file says of its pixels."""


@dataclass(frozen=True)
class SourceFailure:
    """Something in a source that could not be read; the rest went on."""

    name: str
    """The file or part concerned."""
    reason: str
    """One line, with numbers."""
    cut: bool = False
    """Whether all that follows is missing, too: what is made of it is no complete result."""


class Source(Protocol):
    """Something that yields frames in order."""

    @property
    def info(self) -> SourceInfo:
        """What is known before the first frame."""

    @property
    def failures(self) -> Sequence[SourceFailure]:
        """What could not be read in the latest iteration; complete when it has ended."""

    def frames(self) -> Iterator[Frame]:
        """A new iteration from the start (a live source: from now on).

        Every frame has an array of its own, which the source never writes to again.

        Raises:
            SourceError: Nothing of the source can be read, or it broke for good.
        """

    def close(self) -> None:
        """End: a running iteration stops soon. Any thread may call it, more than once."""


class ResultView(Protocol):
    """What a sink may ask of a result; the real one is `segedge.segment.result.Result`."""

    def wait(self) -> None:
        """Block until what was asked for is computed: a GPU may still be at it."""

    @property
    def labels(self) -> NDArray[Any]:
        """H x W class labels, uint8 (uint16 above 256 classes)."""

    @property
    def palette_rgb(self) -> Sequence[Rgb]:
        """Class colours, in label order."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names, in label order."""

    @property
    def class_pixels(self) -> Mapping[str, int]:
        """Pixels of the frame by class name, every class."""

    def overlay(self) -> NDArray[np.uint8]:
        """H x W x 3 uint8 BGR: the frame with its classes coloured."""


class Analysis(Protocol):
    """What is found out about every frame beyond what each JSON line says anyway."""

    @property
    def name(self) -> str:
        """Its key in the line."""

    @property
    def needs(self) -> frozenset[str]:
        """Which outputs of the result it reads; computed before it."""

    def __call__(self, frame: Frame, result: ResultView) -> Any:
        """The facts of one frame, as `json.dumps` takes them: no NaN, no NumPy values.

        Frames come in order, from one thread at a time, and may be dropped in between. It may
        keep state over them, so each sink gets analyses of its own; it keeps neither frame nor
        result.
        """


class EndOfRun(Exception):  # noqa: N818 - a wish, not a failure
    """A sink's `write` raises it: whoever watches has seen enough. Not an error.

    The frame counts as written. No further frame is read; those on their way still go to every
    sink, this one too, and the files are finished as at the end of the source.
    """


class Sink(Protocol):
    """Something that takes frames with their results, in order, from one thread at a time."""

    @property
    def needs(self) -> frozenset[str]:
        """What it reads, computed before it.

        Any of labels, overlay, confidence, mean_confidence, class_pixels.
        """

    @property
    def paths(self) -> Sequence[Path]:
        """What was made so far under its final name; a folder stands for the files in it."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know, a line each: "frame 7 is 640x480 ..."."""

    def write(self, frame: Frame, result: ResultView) -> None:
        """Take one frame. It may add to ``frame.times``, and keeps neither frame nor result.

        Raises:
            SinkError: It cannot be written.
            EndOfRun: The user asked for the end: "q" in a window, a closed pipe.
        """

    def close(self, *, error: bool = False) -> None:
        """Finish what is open; more than once does nothing.

        Args:
            error: The run broke: what is there is no complete result. An end by Ctrl-C is not an
                error: the output is whole, only shorter.

        Raises:
            SinkError: It cannot be finished.
        """
