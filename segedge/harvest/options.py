"""What a harvest keeps, and how much of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from segedge.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True)
class HarvestOptions:
    """Where a harvest goes, and what is worth it."""

    folder: Path
    """The folder; one that was harvested into goes on."""
    budget_bytes: int = 500_000_000
    """What all files of the folder may take together; the least worth is dropped beyond."""
    top_share: float = 0.1
    """A frame is a candidate if one of its reasons is among this share of the highest so far."""
    distance: int = 4
    """Bits in which the hashes of two frames may differ that count as the same picture, 0..64."""
    baseline: Path | None = None
    """A file with the usual class shares; None: learned in the run."""

    def __post_init__(self) -> None:
        if self.budget_bytes < 1:
            raise UsageError(
                f"a budget is more than nothing, found {self.budget_bytes} bytes",
                fix="--harvest-budget 500MB",
            )
        if not 0.0 < self.top_share <= 1.0:
            raise UsageError(
                f"a share lies above 0 and up to 1, found {self.top_share:g}",
                fix="--harvest-top 0.1",
            )
        if not 0 <= self.distance <= 64:
            raise UsageError(
                f"hashes of 64 bits differ in 0 to 64, found {self.distance}",
                fix="--harvest-distance 4",
            )


def parse_bytes(text: str) -> int:
    """Bytes of ``500MB``, ``2 GB`` or ``750k``, in powers of ten."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)b?\s*", text.lower())
    count = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if count < 1:
        raise UsageError(
            f"no size {text!r}",
            facts={"expected": "a number above 0 with kB, MB, GB or TB"},
            fix="--harvest-budget 500MB",
        )
    return count
