"""What the options of `segedge bench` mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from segedge.card.geometry import Size
from segedge.cli.options import parse_words
from segedge.errors import UsageError, unknown_name_error
from segedge.measure.bench.results import MODES, Mode


def parse_modes(
    words: Sequence[str] | None, *, has_video: bool = False, has_motion: bool = False
) -> tuple[Mode, ...]:
    """Modes, ``both`` (network and frame) or ``all`` (and rate); commas too.

    A video is given to be measured: with one, its mode is always among them; so is that of motion,
    beside the rate of a network that sees every frame.
    """
    modes: list[str] = ["video"] if has_video else []
    modes += ["rate", "motion"] if has_motion else []
    for word in parse_words(words or ["both"]):
        if word not in (*MODES, "both", "all"):
            raise unknown_name_error("mode", word, [*MODES, "both", "all"])
        modes += {"both": MODES[:2], "all": MODES[:3]}.get(word, (word,))
    return cast("tuple[Mode, ...]", tuple(mode for mode in MODES if mode in modes))


def parse_batches(words: Sequence[str] | None) -> tuple[int, ...]:
    """``1,2,4,8``."""
    found = parse_words(words)
    for word in found:
        if not word.isdigit() or int(word) < 1:
            raise UsageError(
                "--batch takes whole numbers above 0", facts={"found": word}, fix="--batch 1,2,4,8"
            )
    return tuple(map(int, found)) or (1,)


def parse_sizes(words: Sequence[str] | None) -> tuple[Size, ...]:
    """``720x1280,1080x1920``."""
    sizes = tuple(Size.parse(word) for word in parse_words(words))
    for size in sizes:
        if min(size.height, size.width) < 1:
            raise UsageError("a size must be positive", facts={"found": str(size)})
    return sizes


def parse_tolerance(text: str) -> float:
    """``5%`` or ``0.05``, as a share."""
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100.0 if text.strip().endswith("%") else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 1.0:
        raise UsageError(
            f"--tolerance {text} is no share",
            facts={"expected": "0 % to below 100 %, e.g. 5% or 0.05"},
            fix="--tolerance 5%",
        )
    return share
