"""Slide: a frame at full resolution, seen through windows of the network's size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from segedge.card.geometry import Size
from segedge.errors import UsageError

OVERLAP = Fraction(1, 3)
"""Share of a window that the next one sees again: the stride of 341 for windows of 512, 513 for
769, that configurations of mmsegmentation have."""


@dataclass(frozen=True)
class Slide:
    """Which windows a frame is cut into, and how far neighbours overlap.

    Windows lie as in mmsegmentation's ``slide_inference``: a stride apart from the upper left
    corner on, and the last ones moved back to end with the frame. Where windows overlap, their
    logits, each interpolated to the frame's pixels, are averaged before anything else is done. A
    frame smaller than the window is padded below and to the right with the card's border colour.
    """

    window: Size | None = None
    """Height and width in frame pixels; None: the network's input size."""
    overlap: Fraction | float | int | Size = OVERLAP
    """A share of the window below 1, or pixels from 1 on (of each axis: a `Size`)."""
    batch: int = 4
    """Most windows in one call of a network whose batch axis is free."""

    def __post_init__(self) -> None:
        given = self.overlap
        if self.batch < 1:
            raise UsageError(f"a batch holds at least 1 window, found {self.batch}")
        if not isinstance(given, Size) and not (
            0 <= given < 1 or (1 <= given < math.inf and float(given).is_integer())
        ):
            raise UsageError(
                f"no overlap {given}",
                facts={"expected": "a share of the window, 0 to below 1, or whole pixels"},
                fix="--overlap 0.5",
            )
        if self.window is not None:
            self.steps(self.window)

    def steps(self, window: Size) -> Size:
        """Pixels from one window to the next; UsageError where the overlap is as long as it."""
        if isinstance(self.overlap, Size):
            lost = self.overlap
        elif self.overlap >= 1:
            lost = Size(int(self.overlap), int(self.overlap))
        else:
            rest = 1 - Fraction(self.overlap).limit_denominator(1 << 20)
            return Size(
                max(1, math.floor(window.height * rest)), max(1, math.floor(window.width * rest))
            )
        if lost.height >= window.height or lost.width >= window.width:
            raise UsageError(
                "windows must overlap by less than their size",
                facts={"overlap": f"{lost} pixels", "window": str(window)},
                fix="--overlap 0.5",
            )
        return Size(window.height - lost.height, window.width - lost.width)

    def describe(self, window: Size) -> str:
        """What is done, for people: ``windows of 512x512, 341x341 apart, logits averaged``."""
        return f"windows of {window}, {self.steps(window)} apart, logits averaged"

    def check_window(self, fixed: Size | None) -> None:
        """Refuse another window than the network's input size, where that is fixed."""
        if fixed is not None and self.window not in (None, fixed):
            raise UsageError(
                "this network takes windows of one size only",
                facts={"its size": str(fixed), "asked for": str(self.window)},
                fix=f"--slide {fixed}, or --slide auto; or export it with a free size",
            )


def starts(frame: int, window: int, step: int) -> tuple[int, ...]:
    """First pixel of each window along an axis; the last ends with the frame."""
    room = max(frame - window, 0)
    return tuple(min(number * step, room) for number in range(-(-room // step) + 1))


def parse_slide(window: str | None, overlap: str | None) -> Slide | None:
    """What ``--slide`` and ``--overlap`` say; None where no sliding is asked for.

    Windows are ``512x1024`` (height x width), ``512`` or ``auto`` (the network's own size),
    overlaps ``0.5``, ``1/3``, ``171`` or ``171x256`` (pixels, height x width).
    """
    if window is None:
        if overlap is not None:
            raise UsageError("--overlap is for --slide", fix=f"--slide auto --overlap {overlap}")
        return None
    size = None if window.strip().lower() == "auto" else Size.parse(window)
    return Slide(size, OVERLAP if overlap is None else _parse_overlap(overlap))


def _parse_overlap(text: str) -> Fraction | Size:
    if "x" in text.lower():
        return Size.parse(text)
    try:
        return Fraction(text.replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"no overlap {text!r}",
            facts={"expected": "a share (0.5, 1/3), pixels (171) or HEIGHTxWIDTH in pixels"},
            fix="--overlap 0.5",
        ) from None
