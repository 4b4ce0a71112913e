"""Road and zones in the picture: a sink whose overlays show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.analyse.facts import ZoneWatch, road_of
from segedge.analyse.ground import Ground
from segedge.analyse.road import Nearest, Road, RoadOptions
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, Sink

Painter = Callable[[NDArray[np.uint8], Frame, ResultView], None]
"""Draws into an H x W x 3 uint8 BGR picture, in place."""

_GREEN, _RED, _WHITE, _BLACK = (80, 220, 80), (80, 80, 255), (255, 255, 255), (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class DrawnSink:
    """Passes results on to another sink, with things drawn into their overlays."""

    def __init__(self, sink: Sink, painters: Sequence[Painter]) -> None:
        """Wrap a sink, closed with this one; painters may keep state, and are its own."""
        self._sink = sink
        self._painters = tuple(painters)

    @property
    def needs(self) -> frozenset[str]:
        """What the sink reads, and what the painters do."""
        return self._sink.needs | {"labels"}

    @property
    def paths(self) -> Sequence[Path]:
        """What the sink made."""
        return self._sink.paths

    @property
    def notes(self) -> Sequence[str]:
        """What the sink has to say."""
        return self._sink.notes

    def write(self, frame: Frame, result: ResultView) -> None:
        """Draw, and pass on."""
        self._sink.write(frame, DrawnResult(result, frame, self._painters))

    def close(self, *, error: bool = False) -> None:
        """Close the sink."""
        self._sink.close(error=error)


class DrawnResult:
    """A result with another overlay; all else is the result's own."""

    def __init__(self, result: ResultView, frame: Frame, painters: Sequence[Painter]) -> None:
        """Draw at once: painters that keep state must see every frame once."""
        self._result = result
        picture = result.overlay()
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise UsageError(
                "road and zones are drawn into BGR pictures only", fix="leave --draw out"
            )
        self._overlay: NDArray[np.uint8] = picture.copy()  # other sinks have the same array
        # Of two pictures side by side the right one shows the classes.
        canvas = self._overlay[:, -frame.size[1] :]
        with frame.times.measure("draw"):
            for paint in painters:
                paint(canvas, frame, result)

    def __getattr__(self, name: str) -> Any:
        """What the result has."""
        return getattr(self._result, name)

    def overlay(self) -> NDArray[np.uint8]:
        """H x W x 3 uint8 BGR: the result's overlay, drawn upon; of two, the right one."""
        return self._overlay


class RoadPainter:
    """The outline of the drivable area, the obstacles' feet, and the nearest one on the road."""

    def __init__(self, options: RoadOptions | None = None, *, ground: Ground | None = None) -> None:
        """Keep the options; with a ground the nearest obstacle shows its distance."""
        self._options = options or RoadOptions()
        self._ground = ground

    def __call__(self, picture: NDArray[np.uint8], frame: Frame, result: ResultView) -> None:
        """Draw one frame's."""
        road = road_of(result, self._options)
        line = _line_px(picture)
        self._feet(picture, road, line)
        if len(road.polygon):
            _outline(picture, road.polygon, _GREEN, line)
        if road.nearest_on_road is not None:
            self._mark(picture, road, road.nearest_on_road, line)

    def _feet(self, picture: NDArray[np.uint8], road: Road, line: int) -> None:
        """A white line under the obstacle of each column, as the road user sees them."""
        columns = np.flatnonzero(road.obstacle_y >= 0)
        for shift in range(1, line + 1):
            rows = np.minimum(road.obstacle_y[columns] + shift, picture.shape[0] - 1)
            picture[rows, columns] = _WHITE

    def _mark(self, picture: NDArray[np.uint8], road: Road, found: Nearest, line: int) -> None:
        text = found.name
        if self._ground is not None:
            at = (np.array([found.x]), np.array([found.y]))
            distance = float(self._ground.distances_m(*at, road.mask.shape)[0])
            text += f" {distance:.1f} m" if np.isfinite(distance) else ""
        cv2.circle(picture, (found.x, found.y), 3 * line, _BLACK, line + 2, cv2.LINE_AA)
        cv2.circle(picture, (found.x, found.y), 3 * line, _RED, line, cv2.LINE_AA)
        _write(picture, text, (found.x + 5 * line, found.y), _RED)


class ZonePainter:
    """Zones with their state: green when free, red when occupied."""

    def __init__(self, watch: ZoneWatch) -> None:
        """Keep the states; the watch is for this painter alone."""
        self._watch = watch

    def __call__(self, picture: NDArray[np.uint8], frame: Frame, result: ResultView) -> None:
        """Draw one frame's."""
        seen = self._watch.look(frame, result)
        for zone in self._watch.zones:
            color = _RED if self._watch.states[zone.name].occupied else _GREEN
            points = np.array(zone.pixels(*picture.shape[:2])).round().astype(np.int32)
            _outline(picture, points, color, _line_px(picture))
            share = seen[zone.name][0]
            left, top = points.min(axis=0)
            at = (int(left), int(top) - _line_px(picture) - 3)
            _write(picture, f"{zone.name} {100 * share:.0f} %", at, color)


def _line_px(picture: NDArray[np.uint8]) -> int:
    return int(max(1, round(picture.shape[0] / 360)))


def _outline(
    picture: NDArray[np.uint8], ring: NDArray[np.int32], color: tuple[int, int, int], line: int
) -> None:
    """A closed line with a dark rim, to be seen on any class colour."""
    ring = ring.reshape(-1, 1, 2)
    cv2.polylines(picture, [ring], True, _BLACK, line + 2, cv2.LINE_AA)
    cv2.polylines(picture, [ring], True, color, line, cv2.LINE_AA)


def _write(
    picture: NDArray[np.uint8], text: str, at: tuple[int, int], color: tuple[int, int, int]
) -> None:
    """Text on a dark ground, lower left corner at a point, moved into the picture if it is not."""
    height, width = picture.shape[:2]
    scale = max(0.4, height / 1000)
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, scale, 1)
    x = int(np.clip(at[0], 3, max(3, width - text_width - 3)))
    y = int(np.clip(at[1], text_height + 3, max(text_height + 3, height - below - 3)))
    ground = picture[max(0, y - text_height - 3) : y + below + 1, x - 3 : x + text_width + 3]
    np.floor_divide(ground, 4, out=ground)
    cv2.putText(picture, text, (x, y), _FONT, scale, color, 1, cv2.LINE_AA)
