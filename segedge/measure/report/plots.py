"""Charts with two axes: lines over a size, and points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from segedge.measure.report.axis import Axis, number, tick_texts
from segedge.measure.report.page import color, escape
from segedge.measure.report.svg import chart, line, percent, ruled, text

_HEIGHT = 240
_TOP = 22
_WIDTH, _LETTER = 820.0, 7.0
"""Of a plot on a wide window and of a letter, in pixels: labels are kept apart by them."""
_PLACES = (0, 16, -16, 32, -32, 48, -48, 64, 80, 96)
"""Where a label may stand below its point, in pixels, the best first."""


@dataclass(frozen=True)
class Point:
    """A point, with what is known of its height."""

    x: float
    y: float
    low: float | None = None
    """Lower end of the interval of ``y``; None without one."""
    high: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one colour."""

    name: str
    points: tuple[Point, ...]


def line_chart(
    series: Sequence[Series], *, title: str, x_unit: str, y_unit: str, log: bool = True,
    at: Sequence[float] | None = None,
) -> str:  # fmt: skip
    """Lines through the points of each series with their intervals; empty without points.

    Figures across stand ``at`` these places, the sizes that were measured, or at round numbers.
    """
    return _plot(series, (title, x_unit, y_unit), log, joined=True, at=at)


def scatter(series: Sequence[Series], *, title: str, x_unit: str, y_unit: str) -> str:
    """Points with their labels; empty without points."""
    return _plot(series, (title, x_unit, y_unit), True, joined=False)


def _plot(
    series: Sequence[Series], names: tuple[str, str, str], log: bool, *, joined: bool,
    at: Sequence[float] | None = None,
) -> str:  # fmt: skip
    title, x_unit, y_unit = names
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    across = Axis.around([point.x for point in points], log=log, margin=0.06)
    heights = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    upwards = Axis.around(heights, log=log, margin=0.08)
    parts = _grid(upwards, y_unit) + ruled(across, _TOP, _HEIGHT, "", at)
    parts.append(text(x_unit, 1.0, _HEIGHT + 33, "end", "q"))
    drops = iter(_drops([_Spot(p, across.share(p.x), _down(upwards, p.y)) for p in points]))
    for n, one in enumerate(series):
        parts.append(f'<g class="c{color(n)}">')
        parts += _series(one, across, upwards, joined)
        parts += [_label(_Spot(p, across.share(p.x), _down(upwards, p.y)), next(drops))
                  for p in one.points]  # fmt: skip
        parts.append("</g>")
    spoken = "; ".join(
        f"{one.name}: " + ", ".join(_said(point, x_unit, y_unit) for point in one.points)
        for one in series
    )
    return chart(parts, _HEIGHT + 40, title=title, spoken=spoken, sides="left right")


def _said(point: Point, x_unit: str, y_unit: str) -> str:
    name = f"{point.label} " if point.label else ""
    return f"{name}{number(point.x)} {x_unit} {number(point.y)} {y_unit}"


def _grid(upwards: Axis, unit: str) -> list[str]:
    parts = [text(unit, 0.0, 12, "start", "q")]
    ticks = upwards.ticks(5)
    for value, said in zip(ticks, tick_texts(ticks), strict=True):
        y = _down(upwards, value)
        parts += [line(0.0, y, 1.0, y, "grid")]
        # Left of the plot: x is negative there, which percentages of the text's own cannot say.
        parts += [f'<text class="q" x="-8" y="{y + 4:.1f}" text-anchor="end">{said}</text>']
    return parts


def _down(upwards: Axis, value: float) -> float:
    return _HEIGHT - (_HEIGHT - _TOP) * upwards.share(value)


def _series(one: Series, across: Axis, upwards: Axis, joined: bool) -> list[str]:
    at = [(across.share(p.x), _down(upwards, p.y)) for p in one.points]
    parts = []
    if joined:
        for (x1, y1), (x2, y2) in pairwise(at):
            parts.append(line(x1, y1, x2, y2, "line"))
    for point, (x, y) in zip(one.points, at, strict=True):
        if point.low is not None and point.high is not None:
            ends = (_down(upwards, point.low), _down(upwards, point.high))
            parts.append(line(x, ends[0], x, ends[1], "whisker"))
        name = f"{one.name} {point.label}".strip()
        said = f"{name}: {number(point.x)}, {number(point.y)}"
        parts.append(
            f'<circle class="dot" cx="{percent(x)}" cy="{y:.1f}" r="5">'
            f"<title>{escape(said)}</title></circle>"
        )
    return parts


@dataclass(frozen=True)
class _Spot:
    """Where a point is drawn: the share of the width, pixels from the top."""

    point: Point
    x: float
    y: float

    @property
    def is_right(self) -> bool:
        """Whether its label stands left of it."""
        return self.x > 0.7

    def box(self, drop: int) -> tuple[float, float, float, float]:
        """Left, right, top and bottom of its label in pixels, on a page as wide as ours."""
        near, far = 9.0, 9.0 + _LETTER * len(self.point.label)
        at = self.x * _WIDTH
        left, right = (at - far, at - near) if self.is_right else (at + near, at + far)
        return left, right, self.y + drop - 7, self.y + drop + 7


def _drops(spots: Sequence[_Spot]) -> list[int]:
    """How many pixels each label stands below its point, so that none covers another."""
    taken = [(s.x * _WIDTH - 5, s.x * _WIDTH + 5, s.y - 5, s.y + 5) for s in spots]
    found = []
    for spot in spots:
        free = (drop for drop in _PLACES if _fits(spot.box(drop), taken))
        found.append(next(free, 0))
        if spot.point.label:
            taken.append(spot.box(found[-1]))
    return found


def _fits(
    box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]
) -> bool:
    left, right, top, bottom = box
    is_inside = top >= _TOP and bottom <= _HEIGHT
    return is_inside and not any(
        left < x1 and x0 < right and top < y1 and y0 < bottom for x0, x1, y0, y1 in taken
    )


def _label(spot: _Spot, drop: int) -> str:
    if not spot.point.label:
        return ""
    side, anchor = (-9, "end") if spot.is_right else (9, "start")
    words = text(spot.point.label, spot.x, round(spot.y + drop, 1), anchor)
    moved = f'<g transform="translate({side} 4)">{words}</g>'
    if not drop:
        return moved
    return line(spot.x, spot.y, spot.x, spot.y + drop, "grid") + moved
