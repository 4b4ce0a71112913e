"""Axes: where a value lies, and which round numbers to write beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

_LOG_FROM = 8.0
"""Highest over lowest from which a linear axis would squeeze the small ones to nothing."""


@dataclass(frozen=True)
class Axis:
    """A scale from ``low`` to ``high``."""

    low: float
    high: float
    is_log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.is_log and self.low <= 0.0):
            raise ValueError(f"no axis from {self.low} to {self.high}, log {self.is_log}")

    @classmethod
    def from_zero(cls, values: Iterable[float]) -> Axis:
        """Linear, from 0 to the highest value."""
        return cls(0.0, max([*values, 0.0]) or 1.0)

    @classmethod
    def around(cls, values: Iterable[float], *, margin: float = 0.06, log: bool = True) -> Axis:
        """All values with a margin; logarithmic where they differ much and all are positive."""
        found = list(values) or [0.0]
        low, high = min(found), max(found)
        if log and low > 0.0 and high / low >= _LOG_FROM:
            factor = (high / low) ** margin
            return cls(low / factor, high * factor, True)
        room = margin * (high - low) or abs(high) * margin or 1.0
        return cls(max(0.0, low - room) if low >= 0.0 else low - room, high + room)

    def share(self, value: float) -> float:
        """0 at the low end to 1 at the high one; values beyond stay at the ends."""
        inside = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers on the axis, about ``most`` of them at most."""
        if self.is_log:
            found = _log_ticks(self.low, self.high)
            if len(found) > most:
                found = [value for value in found if _is_power(value)] or found
            # Decades enough for all to be powers of ten: every second, every third.
            return found[:: math.ceil(len(found) / most)]
        step = _round_step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(step * n, 12) for n in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [lead * 10.0**decade for decade in decades for lead in (1, 2, 5)]
    return [value for value in values if low <= value <= high]


def _is_power(value: float) -> bool:
    return abs(math.log10(value) - round(math.log10(value))) < 1e-9


def _round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, not below ``step``."""
    decade = 10.0 ** math.floor(math.log10(step))
    return next(lead * decade for lead in (1, 2, 5, 10) if lead * decade >= step * (1 - 1e-9))


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Figures for round numbers, with as many decimals as they need to differ."""
    steps = [b - a for a, b in pairwise(ticks)]
    if not steps or max(steps) > 1.01 * min(steps):
        return [number(value) for value in ticks]
    decimals = max(0, -math.floor(math.log10(steps[0]) + 1e-9))
    return [f"{value:.{decimals}f}" for value in ticks]


def number(value: float) -> str:
    """Three significant digits without trailing zeros and without an exponent."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
