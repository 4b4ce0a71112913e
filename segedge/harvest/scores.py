"""Why a frame is worth a label: four reasons, each a number, and how unusual that number is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.plain import parse_json
from segedge.errors import UsageError, unknown_name_error
from segedge.harvest.grid import Grid

Reason = Literal["margin", "flicker", "rare", "drift"]
SPREAD: tuple[Reason, ...] = ("margin", "flicker", "drift")
"""Reasons whose values are compared with how they are spread; ``rare`` counts frames."""

_STILL_LEVELS = 8
"""Brightness (of 255) that may change where the image counts as still: noise does that."""
_LEAST_STILL_SHARE = 0.2
"""Below this share of still image the camera moves or the scene was cut: no flicker is seen."""
_LEAST_CELLS = 4
"""Cells of the grid in which a class must be to count as present."""
_BINS = 512


@dataclass
class Baseline:
    """Shares of the classes that are usual: learned, or given and then fixed."""

    shares: NDArray[np.float64]
    """Mean share a class over the frames seen; sums to 1."""
    frames: int = 0
    """Frames seen."""
    fixed: bool = False
    """Whether it was given, and learns nothing."""

    @classmethod
    def unknown(cls, class_count: int) -> Baseline:
        """Before the first frame: all classes alike."""
        return cls(np.full(class_count, 1.0 / class_count))

    def usual(self) -> NDArray[np.float64]:
        """The shares, with one frame of equal shares among those that were seen."""
        if self.fixed:
            return self.shares
        even = np.full(self.shares.size, 1.0 / self.shares.size)
        mean: NDArray[np.float64] = (self.shares * self.frames + even) / (self.frames + 1)
        return mean

    def add(self, shares: NDArray[np.float64]) -> None:
        """Learn one frame more."""
        if not self.fixed:
            self.frames += 1
            self.shares = self.shares + (shares - self.shares) / self.frames


def read_baseline(path: Path, classes: Sequence[str]) -> Baseline:
    """A baseline of JSON: class names to shares or pixels, or a harvest's ``harvest.json``."""
    try:
        data = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot read a baseline from {path}", facts={"found": str(error)}
        ) from error
    if isinstance(data, dict):
        data = data.get("class_shares", data)
    if not isinstance(data, dict) or not all(_is_amount(value) for value in data.values()):
        raise UsageError(
            f"{path} holds no baseline",
            facts={"expected": '{"road": 0.31, "car": 0.08, ...}, nothing negative',
                   "found": json.dumps(data)[:60]},
        )  # fmt: skip
    for name in data:
        if name not in classes:
            raise unknown_name_error(f"class of {path}:", name, tuple(classes))
    amounts = np.array([float(data.get(name, 0.0)) for name in classes])
    if amounts.sum() <= 0:
        raise UsageError(f"{path} holds no baseline: all shares are 0")
    return Baseline(amounts / amounts.sum(), fixed=True)


_MOST_PIXELS = 1e18
"""More than all cameras have seen; the sum of such numbers is still one."""


def _is_amount(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0.0 <= value <= _MOST_PIXELS


@dataclass
class Usual:
    """How the values of one reason are spread, so far."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    """Frames a bin; the bins are even in the root of the value, so that small ones are told
    apart."""

    def bits(self, value: float) -> float:
        """How unusual a value is: n bits where one frame in 2^n has as much or more."""
        at_least = int(self.counts[_bin(value) :].sum())
        return math.log2((int(self.counts.sum()) + 1) / (at_least + 1))

    def add(self, value: float) -> None:
        """Count one frame more."""
        self.counts[_bin(value)] += 1


def _bin(value: float) -> int:
    return min(int(math.sqrt(max(value, 0.0)) * _BINS), _BINS - 1)


@dataclass
class Presence:
    """In how many frames each class was, so far."""

    counts: NDArray[np.int64]
    """Frames that have the class, a class."""
    frames: int = 0
    """Frames seen."""

    def bits(self, label: int) -> float:
        """How rare a class is: n bits where one frame in 2^n has it."""
        return math.log2((self.frames + 1) / (int(self.counts[label]) + 1))

    def share(self, label: int) -> float:
        """Share of the frames that have a class, 0..1."""
        return int(self.counts[label]) / max(self.frames, 1)

    def rarest(self, present: Sequence[int]) -> int | None:
        """The rarest of some classes, or None where there are none."""
        return min(present, key=lambda label: int(self.counts[label]), default=None)

    def add(self, present: Sequence[int]) -> None:
        """Count one frame more."""
        self.frames += 1
        self.counts[list(present)] += 1


@dataclass(frozen=True)
class Scores:
    """What one frame is like."""

    values: Mapping[Reason, float]
    """Margin, flicker and drift, each 0..1; one that cannot be told is left out."""
    present: tuple[int, ...]
    """Labels of the classes that are in it."""


class Scorer:
    """Scores the frames of one source."""

    def __init__(self) -> None:
        self._last: Grid | None = None

    def __call__(self, grid: Grid, baseline: Baseline, *, moving: bool) -> Scores:
        """The values of the next frame; ``moving``: it follows on the one before, as in a video."""
        values: dict[Reason, float] = {}
        if grid.doubt is not None:
            values["margin"] = float(grid.doubt.mean())
        last, self._last = self._last, grid
        if moving and last is not None and last.labels.shape == grid.labels.shape:
            values["flicker"] = flicker(last, grid)
        values["drift"] = drift(grid.shares, baseline.usual())
        least = min(_LEAST_CELLS, grid.labels.size) / grid.labels.size
        present = np.flatnonzero(grid.shares >= least * (1 - 1e-9))
        return Scores(values, tuple(present.tolist()))


def flicker(last: Grid, grid: Grid) -> float:
    """Share of the grid whose label changes where the image does not, 0..1."""
    change = np.abs(grid.luma.astype(np.int16) - last.luma)
    still = change < _STILL_LEVELS
    if still.mean() < _LEAST_STILL_SHARE:
        return 0.0
    return float((still & (grid.labels != last.labels)).mean())


def drift(shares: NDArray[np.float64], usual: NDArray[np.float64]) -> float:
    """How far class shares are from the usual ones, 0..1.

    The Jensen-Shannon divergence in bits (Lin, IEEE Transactions on Information Theory 37, 1991).
    """
    middle = (shares + usual) / 2

    def relative(p: NDArray[np.float64]) -> float:
        some = p > 0
        return float((p[some] * np.log2(p[some] / middle[some])).sum())

    return min(1.0, max(0.0, (relative(shares) + relative(usual)) / 2))
