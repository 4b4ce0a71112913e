"""Zones of the image: their spelling, what is in them, and when something comes and goes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from segedge.analyse.polygon import Point, Spans, crossing_edges, polygon_area, polygon_spans
from segedge.card.plain import parse_json
from segedge.errors import UsageError, unknown_name_error
from segedge.machine.text_file import UnreadableText, read_text

Event = Literal["enter", "leave"]

_EXAMPLE = "--zone 'gate=0.1,0.6 0.4,0.6 0.4,1 0.1,1'"
_KEYS = ("polygon", "classes")


@dataclass(frozen=True)
class Zone:
    """A polygon in the image, with a name."""

    name: str
    """What JSON lines and pictures call it."""
    points: tuple[Point, ...]
    """Its corners (x, y): shares of width and height where all are within 0..1, else pixels."""
    classes: tuple[str, ...] = ()
    """What occupies it; none: what the run says for all zones."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("a zone without a name", fix=_EXAMPLE)
        if len(self.points) < 3:
            raise UsageError(
                f"zone {self.name!r} has {len(self.points)} points, a polygon has at least 3",
                fix=_EXAMPLE,
            )
        if not all(math.isfinite(value) for point in self.points for value in point):
            raise UsageError(f"zone {self.name!r} has a point that is not finite", fix=_EXAMPLE)
        crossing = crossing_edges(self.points)
        if crossing is not None:
            raise self._crosses(*crossing)
        if polygon_area(self.points) == 0:
            raise UsageError(f"zone {self.name!r} is a line: its points lie on it", fix=_EXAMPLE)

    @property
    def is_relative(self) -> bool:
        """Whether the points are shares of width and height."""
        return all(0.0 <= value <= 1.0 for point in self.points for value in point)

    def pixels(self, height: int, width: int) -> tuple[Point, ...]:
        """The corners in pixel indices of a frame, whose pixel centres lie at integers."""
        if not self.is_relative:
            return self.points
        return tuple((x * width - 0.5, y * height - 0.5) for x, y in self.points)

    def spans(self, height: int, width: int) -> Spans:
        """The pixels of a frame that lie in the zone; the rest of the zone is cut off."""
        return _spans(self, height, width)

    def _crosses(self, a: int, b: int) -> UsageError:
        def edge(n: int) -> str:
            start, end = self.points[n], self.points[(n + 1) % len(self.points)]
            return f"({start[0]:g}, {start[1]:g}) to ({end[0]:g}, {end[1]:g})"

        return UsageError(
            f"zone {self.name!r} crosses itself",
            facts={f"edge {a + 1}": edge(a), f"edge {b + 1}": edge(b)},
            fix="name the corners in order, around the zone",
        )


@lru_cache(maxsize=256)
def _spans(zone: Zone, height: int, width: int) -> Spans:
    spans = polygon_spans(zone.pixels(height, width), height, width)
    if not len(spans):
        x, y = zip(*zone.points, strict=True)
        raise UsageError(
            f"zone {zone.name!r} covers no pixel of the image",
            facts={
                "zone": f"x {min(x):g} to {max(x):g}, y {min(y):g} to {max(y):g}",
                "image": f"{width}x{height}",
            },
            fix="points are pixels (x,y), or shares of width and height if all are within 0..1",
        )
    spans.setflags(write=False)
    return spans


def parse_zone(text: str) -> Zone:
    """A zone as it is typed: ``gate=0.1,0.6 0.4,0.6 0.4,1 0.1,1``.

    Raises:
        UsageError: It cannot be read, or is no polygon.
    """
    name, equals, rest = text.partition("=")
    words = re.split(r"[\s,;]+", rest.strip(" \t,;"))
    try:
        numbers = [float(word) for word in words if word]
    except ValueError:
        numbers = [math.nan]
    if not equals or len(numbers) % 2 or any(map(math.isnan, numbers)):
        raise UsageError(
            f"no zone {text!r}",
            facts={"expected": "NAME=x,y x,y x,y ... or a JSON file"},
            fix=_EXAMPLE,
        )
    return Zone(name.strip(), tuple(zip(numbers[0::2], numbers[1::2], strict=True)))


def read_zones(path: Path) -> list[Zone]:
    """Zones of JSON: ``{"gate": [[x, y], ...], "lane": {"polygon": ..., "classes": ...}}``."""
    try:
        data = parse_json(read_text(path))
    except (UnreadableText, ValueError) as error:
        raise UsageError(f"cannot read zones from {path}", facts={"found": str(error)}) from error
    if not isinstance(data, dict) or not data:
        raise UsageError(
            f"{path} holds no zones",
            facts={"expected": '{"gate": [[x, y], [x, y], [x, y]]}', "found": str(data)[:60]},
        )
    return [_of_json(str(name), value, path) for name, value in data.items()]


def _of_json(name: str, value: Any, path: Path) -> Zone:
    entry = value if isinstance(value, dict) else {"polygon": value}
    for key in entry:
        if key not in _KEYS:
            raise unknown_name_error(f"key of zone {name!r} in {path}:", key, _KEYS)
    polygon, classes = entry.get("polygon"), entry.get("classes", [])
    if not _is_polygon(polygon) or not _is_names(classes):
        raise UsageError(
            f"zone {name!r} in {path} cannot be read",
            facts={
                "expected": '[[x, y], ...] or {"polygon": [[x, y], ...], "classes": ["car"]}',
                "found": json.dumps(value)[:60],
            },
        )
    return Zone(name, tuple((float(x), float(y)) for x, y in polygon), tuple(classes))


def _is_polygon(value: Any) -> TypeGuard[list[list[float]]]:
    return isinstance(value, list) and all(
        isinstance(point, list)
        and len(point) == 2
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in point)
        for point in value
    )


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def zones_of(spellings: Iterable[str]) -> list[Zone]:
    """Zones as options name them: typed ones, and JSON files of several."""
    zones: list[Zone] = []
    for text in spellings:
        is_file = "=" not in text and text.lower().endswith(".json")
        zones += read_zones(Path(text)) if is_file else [parse_zone(text)]
    names = [zone.name for zone in zones]
    twice = next((name for n, name in enumerate(names) if name in names[:n]), None)
    if twice is not None:
        raise UsageError(f"two zones of the name {twice!r}", fix="give each a name of its own")
    return zones


def zone_pixels(labels: NDArray[Any], zone: Zone, classes: Sequence[str]) -> dict[str, int]:
    """Pixels of each class in a zone of H x W labels; classes without one are left out."""
    from segedge.analyse.scene import count_in_spans

    counts = np.zeros(1 << 16, np.int64)
    count_in_spans(np.ascontiguousarray(labels), zone.spans(*labels.shape), counts)
    return {name: int(counts[n]) for n, name in enumerate(classes) if counts[n]}


@dataclass(frozen=True)
class ZoneRule:
    """When a zone is occupied."""

    classes: tuple[str, ...] = ()
    """What occupies it; none: what moves, see `segedge.analyse.roles.MOVING`."""
    enter_share: float = 0.05
    """Share of the zone from which on it is occupied, above 0 up to 1."""
    leave_share: float = 0.025
    """Share below which it is free again, at most the one above."""
    hold_seconds: float = 0.0
    """How long the share must be there before the state changes, in the source's own time."""

    def __post_init__(self) -> None:
        if not 0.0 < self.leave_share <= self.enter_share <= 1.0:
            raise UsageError(
                "a zone is entered at a share of it up to 1 and left at a smaller one above 0",
                facts={"enter": f"{self.enter_share:g}", "leave": f"{self.leave_share:g}"},
                fix="--zone-enter 0.05 --zone-leave 0.025",
            )
        if not 0.0 <= self.hold_seconds < math.inf:
            raise UsageError(f"no time to wait: {self.hold_seconds:g} s", fix="--zone-hold 0.5")


@dataclass
class ZoneState:
    """Whether a zone is occupied, with hysteresis: it changes at two shares, after a while."""

    rule: ZoneRule
    """When."""
    occupied: bool = False
    """Whether it is."""
    since_seconds: float | None = None
    """When that began in the source's time; None before the first change and for still images."""
    _wish_seconds: float | None = field(default=None, repr=False)
    """Since when the share asks for the other state."""

    def update(self, share: float, pts_seconds: float | None) -> Event | None:
        """Take the zone's share, 0..1, of one more frame; what happened, if anything did.

        A time of None, as still images have it, is not waited for.
        """
        limit = self.rule.leave_share if self.occupied else self.rule.enter_share
        if (share >= limit) == self.occupied:
            self._wish_seconds = None
            return None
        if pts_seconds is not None:
            # a clock that went back (a stream that began again) begins to wait anew
            if self._wish_seconds is None or pts_seconds < self._wish_seconds:
                self._wish_seconds = pts_seconds
            if pts_seconds - self._wish_seconds < self.rule.hold_seconds:
                return None
        self.occupied = not self.occupied
        self.since_seconds, self._wish_seconds = self._wish_seconds, None
        return "enter" if self.occupied else "leave"
