"""Options that several verbs share: their spelling, their help, and the values they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from segedge.errors import UsageError

if TYPE_CHECKING:
    from segedge.options.cleaning import Cleaning
    from segedge.options.smoothing import Smoothing

PICTURE = "Picture"
CLEANING = "Cleaning"
WINDOWS = "Sliding window"
SMOOTHING = "Steadier video"


Opacity = Annotated[
    float, typer.Option(help="Share of the class colour, 0 to 1.", rich_help_panel=PICTURE)
]


MinRegion = Annotated[
    str,
    typer.Option(
        help="Regions of fewer pixels go to the neighbour with the longest border: 200, or"
        " car=50,road=1000.",
        rich_help_panel=CLEANING,
    ),
]


Connectivity = Annotated[
    int,
    typer.Option(
        help="4: pixels of a region share a side; 8: or a corner.", rich_help_panel=CLEANING
    ),
]


Majority = Annotated[
    int,
    typer.Option(
        help="Side of the window whose most frequent label a pixel takes, odd; 0: off.",
        rich_help_panel=CLEANING,
    ),
]


FillHoles = Annotated[
    int,
    typer.Option(
        help="Regions of fewer pixels within one other class take its label.",
        rich_help_panel=CLEANING,
    ),
]


SlideOption = Annotated[
    str | None,
    typer.Option(
        "--slide",
        metavar="HxW|auto",
        help="Windows of this size (auto: the network's) over the frame at full resolution, their"
        " logits averaged.",
        rich_help_panel=WINDOWS,
    ),
]


Overlap = Annotated[
    str | None,
    typer.Option(
        help="What neighbouring windows share: 0.5 or 1/3 of a window (default 1/3), 171 pixels,"
        " or HxW pixels.",
        rich_help_panel=WINDOWS,
    ),
]


Smooth = Annotated[
    str | None,
    typer.Option(
        metavar="[STRENGTH]",
        help="Lean on earlier frames where the image is still; 0.9 where nothing is said, below 1.",
        rich_help_panel=SMOOTHING,
    ),
]


Flicker = Annotated[
    bool | None,
    typer.Option(
        help="Count labels that change where the image does not; with --smooth it is on.",
        rich_help_panel=SMOOTHING,
    ),
]


Backend = Annotated[str, typer.Option(help="auto, or a name that `segedge doctor` lists.")]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def parse_cleaning(min_region: str, connectivity: int, majority: int, fill_holes: int) -> Cleaning:
    """What the options of the cleaning amount to together.

    Raises:
        UsageError: One of them says nothing sensible.
    """
    from segedge.options.cleaning import Cleaning, parse_min_region

    return Cleaning(
        parse_min_region(min_region),
        connectivity=connectivity,
        majority=majority,
        fill_holes=fill_holes,
    )


def parse_smoothing(text: str | None, *, flicker: bool | None) -> Smoothing | None:
    """What ``--smooth`` and ``--flicker`` amount to; None where neither is wanted.

    Args:
        text: A strength; empty: the usual one; None: no smoothing.
        flicker: Whether to count; None: where there is smoothing.

    Raises:
        UsageError: It is no number, or not within 0..1.
    """
    from segedge.options.smoothing import Smoothing

    if text is None:
        return Smoothing(strength=0.0, flicker=True) if flicker else None
    try:
        strength = float(text) if text else Smoothing.strength
    except ValueError:
        raise UsageError(
            f"no strength {text!r}", facts={"expected": "a number, 0 to below 1"}, fix="--smooth"
        ) from None
    return Smoothing(strength=strength, flicker=flicker is not False)


def parse_seconds(text: str | None, *, option: str) -> float | None:
    """Seconds of ``90``, ``90s``, ``10m`` or ``1h``; None stays None.

    Raises:
        UsageError: It is no time, or not above 0.
    """
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


Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0: all.")]
