"""What the options of `segedge bench` mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from segedge.card.geometry import Size
from segedge.errors import UsageError, unknown_name_error
from segedge.measure.bench.results import MODES, Mode


def parse_modes(words: Sequence[str], *, has_video: bool = False) -> tuple[Mode, ...]:
    """``network``, ``frame``, ``rate``, ``video``, ``both`` (the first two), ``all``; commas too.

    A video is given to be measured: with one, its mode is always among them.

    Raises:
        UsageError: Another word, with the nearest one.
    """
    modes: list[str] = ["video"] if has_video else []
    for word in parse_words(words):
        if word not in (*MODES, "both", "all"):
            raise unknown_name_error("mode", word, [*MODES, "both", "all"])
        modes += {"both": MODES[:2], "all": MODES[:3]}.get(word, (word,))
    return cast("tuple[Mode, ...]", tuple(mode for mode in MODES if mode in modes))


def parse_words(words: Sequence[str]) -> list[str]:
    """Repeated options and comma lists, each word once and in order."""
    parts = [part.strip() for word in words for part in word.split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def parse_batches(words: Sequence[str]) -> tuple[int, ...]:
    """``1,2,4,8``.

    Raises:
        UsageError: A word is no whole number above 0.
    """
    found = parse_words(words)
    for word in found:
        if not word.isdigit() or int(word) < 1:
            raise UsageError(
                "--batch takes whole numbers above 0", facts={"found": word}, fix="--batch 1,2,4,8"
            )
    return tuple(map(int, found)) or (1,)


def parse_sizes(words: Sequence[str]) -> tuple[Size, ...]:
    """``720x1280,1080x1920``.

    Raises:
        UsageError: A word is no size, or a side of it is 0.
    """
    sizes = tuple(Size.parse(word) for word in parse_words(words))
    for size in sizes:
        if min(size.height, size.width) < 1:
            raise UsageError("a size must be positive", facts={"found": str(size)})
    return sizes


def parse_tolerance(text: str) -> float:
    """``5%`` or ``0.05``, as a share.

    Raises:
        UsageError: It is neither, or not between 0 and 100 %.
    """
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
