"""What JSON lines and pictures say of road and zones, from real results too."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import CAR, CLASSES, ROAD
from test_road import street

from segedge.analyse.draw import DrawnResult, DrawnSink, RoadPainter, ZonePainter
from segedge.analyse.facts import RoadAnalysis, ZoneAnalysis, ZoneWatch
from segedge.analyse.ground import Ground
from segedge.analyse.road import RoadOptions
from segedge.analyse.zones import Zone, ZoneRule, parse_zone, zone_pixels
from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.segment.segmenter import Segmenter
from segedge.video.memory import MemorySink
from segedge.video.sinks.json_lines import JsonLinesSink


@dataclass
class FakeResult:
    labels: NDArray[Any] = field(default_factory=street)
    classes: tuple[str, ...] = CLASSES
    palette_rgb: tuple[tuple[int, int, int], ...] = ((9, 9, 9),) * 5
    class_pixels: dict[str, int] = field(default_factory=dict)

    def wait(self) -> None:
        pass

    def overlay(self) -> NDArray[np.uint8]:
        return np.full((*self.labels.shape, 3), 40, np.uint8)


def frame_of(labels: NDArray[Any], index: int = 0, fps: float | None = 10) -> Frame:
    pts = None if fps is None else index / fps
    return Frame(np.zeros((*labels.shape, 3), np.uint8), index, pts_seconds=pts)


GROUND = Ground(np.array([[0.1, 0, -1.5], [0, -0.5, 12], [0, 0, 1.0]]))
"""Rows to 12 - y / 2 metres forward, columns to x / 10 - 1.5 to the right."""


def test_road_lines() -> None:
    facts = RoadAnalysis(ground=GROUND, step_px=5)(frame_of(street()), FakeResult())
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["area_px"] == 12 * 10 - 12
    assert facts["limits"]["y"] == [19, 14, 9]
    assert facts["limits"]["left_x"] == [10, 10, 10]
    assert facts["limits"]["right_x"] == [19, 19, 19]
    assert facts["limits"]["width_m"] == [0.9, 0.9, 0.9]
    assert facts["limits"]["left_m"][0] == [-0.5, 2.5]
    assert facts["obstacles"]["x"] == [3, 5, 13, 15, 20, 25]
    assert facts["obstacles"]["y"] == [16, None, 12, 12, None, None]
    assert facts["obstacles"]["class"] == ["person", None, "car", "car", None, None]
    assert facts["obstacles"]["distance_m"][0] == pytest.approx(np.hypot(-1.2, 4), abs=1e-3)
    assert facts["obstacles"]["distance_m"][1] is None
    assert facts["nearest"] == {"x": 4, "y": 16, "class": "person", "distance_m": 4.148}
    assert facts["nearest_on_road"]["class"] == "car"


def test_road_lines_of_nothing() -> None:
    empty = np.full((6, 7), CLASSES.index("sky"), np.uint8)
    facts = RoadAnalysis(ground=GROUND)(frame_of(empty), FakeResult(empty))
    assert facts["polygon"] == []
    assert facts["limits"]["y"] == []
    assert (facts["nearest"], facts["nearest_on_road"]) == (None, None)
    with pytest.raises(UsageError, match="at least 1 pixel, found 0"):
        RoadAnalysis(step_px=0)


def test_zone_lines() -> None:
    analysis = ZoneAnalysis([parse_zone("all=0,0 1,0 1,1 0,1")], ZoneRule(("car",), 0.3, 0.1))
    free, full = np.full((4, 5), ROAD, np.uint8), np.full((4, 5), CAR, np.uint8)
    full[0, :2] = ROAD
    rows = [
        analysis(frame_of(labels, n), FakeResult(labels))["all"]
        for n, labels in enumerate([free, full, full, free])
    ]
    assert [row["event"] for row in rows] == [None, "enter", None, "leave"]
    assert [row["occupied"] for row in rows] == [False, True, True, False]
    assert [row["since_seconds"] for row in rows] == [None, 0.1, 0.1, 0.3]
    assert rows[1]["share"] == 0.9
    assert rows[1]["class_shares"] == {"road": 0.1, "car": 0.9}


def test_a_zone_of_its_own_classes() -> None:
    zone = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)), ("road",))
    analysis = ZoneAnalysis([zone])
    labels = np.full((4, 5), ROAD, np.uint8)
    assert analysis(frame_of(labels), FakeResult(labels))["all"]["occupied"]


def test_drawing_leaves_the_overlay_of_others_alone() -> None:
    zone = parse_zone("gate=0.5,0.5 0.9,0.5 0.9,0.9 0.5,0.9")
    inner = MemorySink(needs=frozenset({"overlay"}))
    painters = [RoadPainter(ground=GROUND), ZonePainter(ZoneWatch([zone]))]
    sink = DrawnSink(inner, painters)
    assert sink.needs == {"overlay", "labels"}
    big = street().repeat(8, axis=0).repeat(8, axis=1)
    result, frame = FakeResult(big), frame_of(big)
    shared = result.overlay()
    result.overlay = lambda: shared  # type: ignore[method-assign]
    sink.write(frame, result)
    drawn = inner.written[0].result
    assert (drawn.overlay() != 40).any()
    assert (shared == 40).all()
    assert drawn.labels is big
    assert "draw" in frame.times.milliseconds
    sink.close(error=True)
    assert inner.closed_with_error


def test_the_outline_is_where_the_road_is() -> None:
    big = street().repeat(8, axis=0).repeat(8, axis=1)
    drawn = DrawnResult(FakeResult(big), frame_of(big), [RoadPainter()]).overlay()
    green = (drawn[:, :, 1].astype(int) - drawn[:, :, 2] > 60).any(axis=0)
    assert green[80 - 2 : 80 + 3].any()
    assert not green[:70].any()
    assert not green[170:].any()


def test_of_two_pictures_the_right_one_is_drawn_upon() -> None:
    result = FakeResult(street().repeat(20, axis=0).repeat(20, axis=1))
    alone = DrawnResult(result, frame_of(result.labels), [RoadPainter()]).overlay()
    pair = np.concatenate([result.overlay(), result.overlay()], axis=1)
    result.overlay = lambda: pair  # type: ignore[method-assign]
    drawn = DrawnResult(result, frame_of(result.labels), [RoadPainter()]).overlay()
    width = result.labels.shape[1]
    assert np.array_equal(drawn[:, :width], pair[:, :width])
    assert np.array_equal(drawn[:, width:], alone)


def test_pictures_of_no_colour_are_refused() -> None:
    result = FakeResult()
    result.overlay = lambda: np.zeros((9, 4), np.uint8)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="BGR pictures only"):
        DrawnResult(result, frame_of(street()), [])


def card() -> ModelCard:
    return ModelCard(CLASSES, ((9, 9, 9),) * 5, 32, 64, stride=8)


def test_results_keep_what_was_found(tmp_path: Path) -> None:
    """`result.road` and `result.zones`, and the lines from the same."""
    rng = np.random.default_rng(3)
    with Segmenter(card(), FakeBackend(card())) as segmenter:
        image = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
        result = segmenter(Frame(image))
        assert result.road is result.road
        assert result.find_road(RoadOptions(obstacles=("sky",))) is not result.road
        zone = parse_zone("half=0,0 1,0 1,0.5 0,0.5")
        expected = zone_pixels(result.labels, zone, CLASSES)
        shares = result.zones(zone)["half"]
        assert shares == {name: n / (24 * 64) for name, n in expected.items()}
        analyses = [RoadAnalysis(), ZoneAnalysis([zone])]
        sink = JsonLinesSink(tmp_path / "a.jsonl", analyses=analyses)
        sink.write(result.frame, result)
    line = json.loads((tmp_path / "a.jsonl").read_text())
    assert line["road"]["area_px"] == result.road.area_px
    assert line["zones"]["half"]["class_shares"] == {k: round(v, 6) for k, v in shares.items()}
