"""The options that several verbs have: groups, and single ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from segedge.cli.groups import Option
from segedge.errors import UsageError
from segedge.options.motion import MotionSource

if TYPE_CHECKING:
    from segedge.options.cleaning import Cleaning
    from segedge.options.motion import Motion
    from segedge.options.sliding import Slide

Model = Annotated[Path, typer.Argument(help="An ONNX file with its card, or an engine.")]
Backend = Annotated[str, "auto, or a name that `segedge doctor` lists."]
Threads = Annotated[int, Option("CPU threads; 0: all.", min=0)]
Opacity = Annotated[float, Option("Share of the class colour, 0 to 1.", panel="Picture")]
Seconds = Annotated[float, "Duration of each mode in each round."]
AsJson = Annotated[bool, Option("Print JSON for machines.", "--json")]


@dataclass(frozen=True)
class CleaningGroup:
    """What is done with small regions of the labels."""

    panel: ClassVar[str] = "Cleaning"
    min_region: Annotated[
        str,
        "Regions of fewer pixels go to the neighbour with the longest border: 200, or"
        " car=50,road=1000.",
    ] = ""
    connectivity: Annotated[int, "4: pixels of a region share a side; 8: or a corner."] = 4
    majority: Annotated[
        int, "Side of the window whose most frequent label a pixel takes, odd; 0: off."
    ] = 0
    fill_holes: Annotated[int, "Regions of fewer pixels within one other class take its label."] = 0

    @cached_property
    def value(self) -> Cleaning:
        """The steps."""
        from segedge.options.cleaning import Cleaning, parse_min_region

        return Cleaning(
            parse_min_region(self.min_region),
            connectivity=self.connectivity,
            majority=self.majority,
            fill_holes=self.fill_holes,
        )


@dataclass(frozen=True)
class CheckGroup:
    """Whether the model must compute here what was exported."""

    panel: ClassVar[str] = "Proof"
    check: Annotated[
        bool, "The first time, compare what the backend computes with what was exported."
    ] = True
    strict: Annotated[bool, "Refuse a backend or a file that is not as exported."] = False

    def __post_init__(self) -> None:
        if self.strict and not self.check:
            raise UsageError("--strict needs the check", fix="leave --no-check out")

    @property
    def words(self) -> dict[str, Any]:
        """As `segedge.load` takes them."""
        return {"check": self.check, "strict": self.strict}


@dataclass(frozen=True)
class SlideGroup:
    """Windows over the frame at full resolution."""

    panel: ClassVar[str] = "Sliding window"
    slide: Annotated[
        str | None,
        Option(
            "Windows of this size (auto: the network's) over the frame at full resolution, their"
            " logits averaged.",
            metavar="HxW|auto",
        ),
    ] = None
    overlap: Annotated[
        str | None,
        "What neighbouring windows share: 0.5 or 1/3 of a window (default 1/3), 171 pixels, or HxW"
        " pixels.",
    ] = None

    @cached_property
    def value(self) -> Slide | None:
        """The windows; None: the whole frame at the network's size."""
        from segedge.options.sliding import parse_slide

        return parse_slide(self.slide, self.overlap)


@dataclass(frozen=True)
class MotionGroup:
    """The network on some frames of a video, its logits carried to the others."""

    panel: ClassVar[str] = "Motion"
    every: Annotated[
        str | None,
        Option(
            "The network sees every so many frames of a video, and its logits are carried to the"
            " others by motion; auto: as seldom as --motion-agreement allows.",
            metavar="N|auto",
        ),
    ] = None
    motion: Annotated[
        MotionSource | None,
        "Where the motion comes from: the images (flow), or the vectors in the video (codec).",
    ] = None
    motion_agreement: Annotated[
        float | None, "Share of carried labels that --every auto keeps right: 0.97."
    ] = None
    motion_gap: Annotated[float | None, "Most seconds between frames that the network sees: 2."] = (
        None
    )
    fuse: Annotated[
        float | None, "Share of the past that stays where the network sees a frame: 0 to below 1."
    ] = None

    @cached_property
    def value(self) -> Motion | None:
        """None: the network sees every frame."""
        from segedge.options.motion import Motion, parse_every

        words = {option: getattr(self, option) for option in _MEMBERS}
        given = {_MEMBERS[option]: word for option, word in words.items() if word is not None}
        if self.every is not None:
            return Motion(parse_every(self.every), **given)
        for option, word in words.items():
            if word is not None:
                raise UsageError(
                    f"--{option.replace('_', '-')} without --every", fix="add --every auto"
                )
        return None


@dataclass(frozen=True)
class FrameGroup:
    """How every frame is segmented, by a model that proves itself first."""

    cleaning: CleaningGroup
    slide: SlideGroup
    motion: MotionGroup
    check: CheckGroup

    @property
    def words(self) -> dict[str, Any]:
        """What is done with frames, as `FrameOptions` and others call it."""
        return {name: getattr(self, name).value for name in ("cleaning", "slide", "motion")}


_MEMBERS = {
    "motion": "source",
    "motion_agreement": "agreement",
    "motion_gap": "gap_seconds",
    "fuse": "fuse",
}
"""Options of `MotionGroup` beside ``--every`` to what `Motion` calls them."""


def parse_words(words: Iterable[str] | None) -> tuple[str, ...]:
    """Repeated options and comma lists, each word once and in order."""
    parts = [part.strip() for word in words or () for part in word.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))


def parse_seconds(text: str | None, *, option: str) -> float | None:
    """Seconds of ``90``, ``90s``, ``10m`` or ``1h``; None stays None."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        seconds = float(number) * {"s": 1.0, "m": 60.0, "h": 3600.0}[unit]
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise UsageError(
            f"no time {text!r}",
            facts={"expected": "a number above 0 with s, m or h"},
            fix=f"{option} 10m",
        )
    return seconds
