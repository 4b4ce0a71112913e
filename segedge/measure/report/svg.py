"""Charts as inline SVG: stacked bars and distributions.

Lengths across are percentages and lengths down are pixels, without a viewBox: the text keeps its
size on a phone and on a wide screen. Colours are classes of ``page.css``, so that a dark screen and
paper have their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from segedge.measure.report.axis import Axis, number, tick_texts
from segedge.measure.report.page import color, escape

_LABEL_FROM = 0.13
"""Share of the width from which a part of a bar has room for its figure."""
_BINS = 72


@dataclass(frozen=True)
class Bar:
    """A bar that is made of parts."""

    label: str
    parts: tuple[tuple[str, float], ...]
    """Name and value of each part, from the left; a name keeps its colour in every bar."""
    note: str = ""
    """Stands at the right above the bar; empty: the sum."""

    def __post_init__(self) -> None:
        if any(not value >= 0.0 for _, value in self.parts):
            raise ValueError(f"a part of {self.label} is negative: {self.parts}")

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return sum(value for _, value in self.parts)


def part_names(bars: Iterable[Bar]) -> list[str]:
    """Names of all parts in order of appearance: the legend of `stacked_bars`."""
    return list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))


def stacked_bars(bars: Sequence[Bar], *, title: str, unit: str = "ms") -> str:
    """Bars below each other on one axis from 0; empty without bars."""
    if not bars:
        return ""
    axis = Axis.from_zero(bar.total for bar in bars)
    names = part_names(bars)
    height, parts = 46, []
    for n, bar in enumerate(bars):
        top = n * height
        parts += [text(bar.label, 0.0, top + 14)]
        parts += [text(bar.note or f"{number(bar.total)} {unit}", 1.0, top + 14, "end", "over")]
        parts += _bar_parts(bar, axis, names, top + 20, unit)
    bottom = len(bars) * height
    grid = ruled(axis, 20, bottom, unit)
    spoken = "; ".join(
        f"{bar.label}: " + ", ".join(f"{name} {number(value)}" for name, value in bar.parts)
        for bar in bars
    )
    return chart(grid + parts, bottom + 22, title=title, spoken=f"{spoken} ({unit})")


def _bar_parts(bar: Bar, axis: Axis, names: list[str], top: int, unit: str) -> list[str]:
    parts, start = [], 0.0
    for name, value in bar.parts:
        left, right = axis.share(start), axis.share(start + value)
        share = f", {100 * value / bar.total:.0f} %" if bar.total else ""
        parts.append(
            f'<rect class="part c{color(names.index(name))}" x="{percent(left)}" y="{top}" '
            f'width="{percent(right - left)}" height="20">'
            f"<title>{escape(f'{name} {number(value)} {unit}{share}')}</title></rect>"
        )
        if right - left >= _LABEL_FROM:
            parts.append(text(number(value), (left + right) / 2, top + 14, "middle", "in"))
        start += value
    return parts


@dataclass(frozen=True)
class Distribution:
    """How values of one kind lie."""

    label: str
    quantiles: tuple[float, ...]
    """Evenly spaced in probability from the lowest to the highest value; at least two."""
    interval: tuple[float, float] | None = None
    """Where the median is known to be."""
    note: str = ""
    """Stands at the right; empty: p50 and p95."""

    def __post_init__(self) -> None:
        is_ordered = all(a <= b for a, b in pairwise(self.quantiles))
        if len(self.quantiles) < 2 or not is_ordered:
            raise ValueError(f"{self.label}: no ordered quantiles: {self.quantiles}")

    def at(self, percent: float) -> float:
        """A percentile, between the quantiles linearly."""
        position = (len(self.quantiles) - 1) * percent / 100.0
        low = min(math.floor(position), len(self.quantiles) - 2)
        a, b = self.quantiles[low], self.quantiles[low + 1]
        return a + (b - a) * (position - low)

    def masses(self, axis: Axis, bins: int) -> list[float]:
        """Share of the values in each of ``bins`` equal pieces of the axis.

        Those beyond its high end are left out: the sum may be below 1.
        """
        found = [0.0] * bins
        each = 1.0 / (len(self.quantiles) - 1)
        for low, high in pairwise(self.quantiles):
            if low > axis.high:
                break
            left, right = axis.share(low) * bins, axis.share(high) * bins
            first, last = min(int(left), bins - 1), min(int(right), bins - 1)
            for n in range(first, last + 1):
                inside = min(right, n + 1) - max(left, n)
                found[n] += each * (inside / (right - left) if right > left else 1.0)
        return found


def distributions(rows: Sequence[Distribution], *, title: str, unit: str = "ms") -> str:
    """A histogram a row on one axis, with the median, its interval and p95; empty without rows."""
    if not rows:
        return ""
    # To p99: the few beyond would squeeze everything else; each row's table has the highest value.
    axis = Axis.around([value for row in rows for value in (row.quantiles[0], row.at(99))])
    height, parts = 64, []
    for n, row in enumerate(rows):
        top = n * height
        note = row.note or f"p50 {number(row.at(50))}, p95 {number(row.at(95))} {unit}"
        parts += [text(row.label, 0.0, top + 14), text(note, 1.0, top + 14, "end", "q over")]
        parts += _density(row, axis, top + 52)
    bottom = len(rows) * height
    spoken = "; ".join(
        f"{r.label}: median {number(r.at(50))}, p95 {number(r.at(95))}" for r in rows
    )
    grid = ruled(axis, 20, bottom, unit)
    return chart(grid + parts, bottom + 22, title=title, spoken=f"{spoken} ({unit})")


def _density(row: Distribution, axis: Axis, base: int) -> list[str]:
    masses = row.masses(axis, _BINS)
    highest = max(masses) or 1.0
    parts = ['<g class="c0">']
    for n, mass in enumerate(masses):
        if mass > 0.0:
            tall = max(1.0, 30.0 * mass / highest)
            parts.append(
                f'<rect class="soft" x="{percent(n / _BINS)}" y="{base - tall:.1f}" '
                f'width="{percent(0.94 / _BINS)}" height="{tall:.1f}"/>'
            )
    if row.interval is not None:
        left, right = (axis.share(value) for value in row.interval)
        parts.append(
            f'<rect class="fill" x="{percent(left)}" y="{base + 2}" '
            f'width="{percent(max(right - left, 0.003))}" height="4"/>'
        )
    parts.append("</g>")
    for at, kind in ((50, "rule"), (95, "dash")):
        parts.append(
            line(axis.share(row.at(at)), base - 32, axis.share(row.at(at)), base + 6, kind)
        )
    return parts


def ruled(
    axis: Axis, top: int, bottom: int, unit: str, ticks: Sequence[float] | None = None
) -> list[str]:
    """Grid lines of an axis across; figures in 22 pixels below, the unit at the last."""
    parts = []
    at_values = axis.ticks() if ticks is None else ticks
    for n, (value, said) in enumerate(zip(at_values, tick_texts(at_values), strict=True)):
        at, is_last = axis.share(value), n == len(at_values) - 1
        parts.append(line(at, top, at, bottom, "grid"))
        anchor = "start" if at < 0.03 else "end" if at > 0.94 else "middle"
        parts.append(
            text(f"{said} {unit}".strip() if is_last else said, at, bottom + 16, anchor, "q")
        )
    return parts


def chart(parts: Iterable[str], height: float, *, title: str, spoken: str, sides: str = "") -> str:
    """The frame around the parts of a chart, ``spoken`` for those who cannot see it.

    ``sides``: ``left`` and ``right`` where the figures of an axis need room.
    """
    name = f"chart {sides}".strip()
    label = escape(f"{title}. {spoken}")
    return (
        f'<div class="{name}"><svg height="{height:g}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg></div>"
    )


def text(said: str, x: float, y: float, anchor: str = "start", kind: str = "") -> str:
    """A text; ``x`` is a share of the width, ``y`` pixels, ``kind`` a class of the style."""
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{percent(x)}" y="{y:g}" text-anchor="{anchor}">{escape(said)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line; across in shares of the width, down in pixels."""
    return f'<line class="{kind}" x1="{percent(x1)}" y1="{y1:g}" x2="{percent(x2)}" y2="{y2:g}"/>'


def percent(share: float) -> str:
    """A share of the width as SVG takes it."""
    return f"{100.0 * share:.2f}%"
