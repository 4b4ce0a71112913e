"""Motion: the network on some frames of a video, its logits carried along to the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from segedge.errors import UsageError, unknown_name_error

if TYPE_CHECKING:
    from segedge.card.card import ModelCard

MotionSource = Literal["auto", "flow", "codec"]
MOTION_SOURCES: tuple[MotionSource, ...] = ("auto", "flow", "codec")
MOST_HELD = 12
"""Frames between two keys of a file, at most: they wait in memory for the second one."""


@dataclass(frozen=True)
class Motion:
    """How seldom the network sees a frame of a video, and how the others get their logits."""

    every: int | Literal["auto"] = "auto"
    """The network sees every so many frames; ``auto``: as seldom as `agreement` allows."""
    source: MotionSource = "auto"
    """Where motion comes from: ``flow`` compares images, ``codec`` takes the vectors in the video
    and falls back on flow where there are none, ``auto`` is flow."""
    agreement: float = 0.97
    """``auto`` sees to it that carried labels agree with the network's at this share of the clear
    pixels away from borders, as measured at each key frame."""
    gap_seconds: float = 2.0
    """Longest time between two key frames, and between two frames of one scene."""
    fuse: float = 0.0
    """Share, 0..1, of the past that stays in a key frame's logits where the image agrees."""
    independent: bool = True
    """Live: the network works in a thread of its own on the newest frame, and every frame is shown
    with the newest logits; else it works on every so many frames in turn. On a GPU it is in turn.
    """

    def __post_init__(self) -> None:
        if self.every != "auto" and not (isinstance(self.every, int) and self.every >= 1):
            raise UsageError(
                f"the network must see every frame or every so many, found {self.every!r}",
                fix="--every 1, --every 4 or --every auto",
            )
        if isinstance(self.every, int) and self.every > MOST_HELD:
            raise UsageError(
                f"at most every {MOST_HELD}th frame can be a key frame, found {self.every}",
                fix=f"--every {MOST_HELD}, or --every auto",
            )
        if self.source not in MOTION_SOURCES:
            raise unknown_name_error("source of motion", self.source, MOTION_SOURCES)
        if not 0.5 <= self.agreement <= 1.0:
            raise UsageError(
                f"an agreement must be within 0.5..1, found {self.agreement}",
                fix="--motion-agreement 0.97",
            )
        if not 0.0 < self.gap_seconds <= 60.0:
            raise UsageError(
                f"a gap must be above 0 and at most 60 seconds, found {self.gap_seconds}",
                fix="--motion-gap 2",
            )
        if not 0.0 <= self.fuse < 1.0:
            raise UsageError(
                f"a share to fuse must be at least 0 and below 1, found {self.fuse}",
                fix="--fuse 0.5",
            )

    @property
    def needs_vectors(self) -> bool:
        """Whether sources are asked for the codec's vectors, which costs decoding a little."""
        return self.source == "codec"

    def check(self, card: ModelCard) -> None:
        """Raise UsageError where a model gives nothing that can be carried."""
        if card.head == "labels":
            raise UsageError(
                "a network that gives labels cannot be carried along by motion",
                facts={"needed": "logits"},
                fix="export it again without its argmax, or leave --every out",
            )


def parse_every(text: str) -> int | Literal["auto"]:
    """``4`` or ``auto``; `Motion` refuses what is neither."""
    return int(text) if text.lstrip("-").isdecimal() else cast("Literal['auto']", text)
