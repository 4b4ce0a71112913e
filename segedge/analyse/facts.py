"""Road and zones as analyses: what JSON lines say of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.analyse.ground import Ground
from segedge.analyse.road import Nearest, Road, RoadOptions, find_road
from segedge.analyse.roles import moving_names
from segedge.analyse.zones import Event, Zone, ZoneRule, ZoneState, zone_pixels
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView

_LEAST_HOLE_SHARE = 1e-4
"""Holes that are smaller than this share of the frame are left out of the lines."""


@runtime_checkable
class SceneView(Protocol):
    """A result that keeps what was found in it, as `segedge.segment.result.Result` does."""

    def find_road(self, options: RoadOptions | None = None) -> Road:
        """The road by these options."""

    def zone_pixels(self, zone: Zone) -> dict[str, int]:
        """Pixels of each class in a zone."""


def road_of(result: ResultView, options: RoadOptions) -> Road:
    """The road of a result, found once for all who ask."""
    if isinstance(result, SceneView):
        return result.find_road(options)
    return find_road(result.labels, result.classes, options)


def pixels_in_zone(result: ResultView, zone: Zone) -> dict[str, int]:
    """Pixels of each class in a zone of a result, counted once for all who ask."""
    if isinstance(result, SceneView):
        return result.zone_pixels(zone)
    return zone_pixels(result.labels, zone, result.classes)


class RoadAnalysis:
    """The key ``road`` of JSON lines; docs/road.md tells its fields."""

    name = "road"
    needs = frozenset({"labels"})

    def __init__(
        self,
        options: RoadOptions | None = None,
        *,
        ground: Ground | None = None,
        step_px: int = 16,
    ) -> None:
        """Keep the options.

        Args:
            options: What counts as what.
            ground: Adds metres.
            step_px: Limits are told of every so many rows; columns are told in groups of so many.

        Raises:
            UsageError: The step is below 1.
        """
        if step_px < 1:
            raise UsageError(f"a step has at least 1 pixel, found {step_px}", fix="--road-step 16")
        self._options = options or RoadOptions()
        self._ground = ground
        self._step = step_px

    def __call__(self, frame: Frame, result: ResultView) -> dict[str, Any]:
        """The facts of one frame."""
        road = road_of(result, self._options)
        least = max(4.0, _LEAST_HOLE_SHARE * road.mask.size)
        holes = [ring.tolist() for ring in road.holes if cv2.contourArea(ring) >= least]
        return {
            "area_px": road.area_px,
            "area_share": round(road.area_share, 6),
            "polygon": road.polygon.tolist(),
            "holes": holes,
            "limits": self._limits(road),
            "obstacles": self._obstacles(road),
            "nearest": self._nearest(road, road.nearest),
            "nearest_on_road": self._nearest(road, road.nearest_on_road),
        }

    def _limits(self, road: Road) -> dict[str, Any]:
        """Left and right of every step-th row that has some, the lowest first."""
        rows = np.arange(road.left_x.size - 1, -1, -self._step)
        rows = rows[road.left_x[rows] >= 0]
        left, right = road.left_x[rows], road.right_x[rows]
        facts = {"y": rows.tolist(), "left_x": left.tolist(), "right_x": right.tolist()}
        if self._ground is None:
            return facts
        size = road.mask.shape
        left_m = self._ground.positions_m(left, rows, size)
        right_m = self._ground.positions_m(right, rows, size)
        width_m = np.linalg.norm(right_m - left_m, axis=1)
        return {**facts, "left_m": _pairs(left_m), "right_m": _pairs(right_m),
                "width_m": _rounded(width_m)}  # fmt: skip

    def _obstacles(self, road: Road) -> dict[str, Any]:
        """Of each group of columns the obstacle that is lowest in the image."""
        starts = np.arange(0, road.obstacle_y.size, self._step)
        lowest = [int(s + np.argmax(road.obstacle_y[s : s + self._step])) for s in starts]
        x = np.array(lowest, np.int64)
        y, label = road.obstacle_y[x], road.obstacle_label[x]
        facts: dict[str, Any] = {
            "x": x.tolist(),
            "y": [int(v) if v >= 0 else None for v in y],
            "class": [road.classes[v] if v >= 0 else None for v in label],
        }
        if self._ground is not None:
            metres = self._ground.distances_m(x, y, road.mask.shape)
            facts["distance_m"] = _rounded(np.where(y >= 0, metres, np.nan))
        return facts

    def _nearest(self, road: Road, found: Nearest | None) -> dict[str, Any] | None:
        if found is None:
            return None
        facts: dict[str, Any] = {"x": found.x, "y": found.y, "class": found.name}
        if self._ground is not None:
            x, y = np.array([found.x]), np.array([found.y])
            facts["distance_m"] = _rounded(self._ground.distances_m(x, y, road.mask.shape))[0]
        return facts


class ZoneWatch:
    """The states of zones over the frames of one source."""

    def __init__(self, zones: Sequence[Zone], rule: ZoneRule | None = None) -> None:
        """Begin with all zones free."""
        self.rule = rule or ZoneRule()
        self.zones = tuple(zones)
        self.states = {zone.name: ZoneState(self.rule) for zone in zones}

    def look(self, frame: Frame, result: ResultView) -> dict[str, tuple[float, Event | None]]:
        """Take one more frame: of each zone the share that is taken, and what happened."""
        seen: dict[str, tuple[float, Event | None]] = {}
        for zone in self.zones:
            taking = moving_names(result.classes, zone.classes or self.rule.classes)
            pixels = pixels_in_zone(result, zone)
            total = sum(pixels.values())
            share = sum(pixels.get(name, 0) for name in taking) / max(total, 1)
            event = self.states[zone.name].update(share, frame.pts_seconds)
            seen[zone.name] = (share, event)
        return seen


class ZoneAnalysis:
    """The key ``zones`` of JSON lines; docs/road.md tells its fields."""

    name = "zones"
    needs = frozenset({"labels"})

    def __init__(self, zones: Sequence[Zone], rule: ZoneRule | None = None) -> None:
        """Begin with all zones free.

        Args:
            zones: The zones.
            rule: When they are occupied.
        """
        self._watch = ZoneWatch(zones, rule)

    def __call__(self, frame: Frame, result: ResultView) -> dict[str, Any]:
        """The facts of one frame, a zone each."""
        seen = self._watch.look(frame, result)
        return {
            zone.name: self._facts(zone, result, *seen[zone.name]) for zone in self._watch.zones
        }

    def _facts(
        self, zone: Zone, result: ResultView, share: float, event: Event | None
    ) -> dict[str, Any]:
        state, pixels = self._watch.states[zone.name], pixels_in_zone(result, zone)
        total = max(sum(pixels.values()), 1)
        return {
            "occupied": state.occupied,
            "event": event,
            "since_seconds": None if state.since_seconds is None else round(state.since_seconds, 6),
            "share": round(share, 6),
            "class_shares": {name: round(count / total, 6) for name, count in pixels.items()},
        }


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    """Metres to the millimetre; what is none is null."""
    return [round(float(v), 3) if math.isfinite(v) else None for v in values]


def _pairs(values: NDArray[np.float64]) -> list[list[float] | None]:
    return [
        [round(float(x), 3), round(float(y), 3)] if math.isfinite(x) and math.isfinite(y) else None
        for x, y in values
    ]
