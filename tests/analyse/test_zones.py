"""Zones: which pixels, which spellings, and when something comes and goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import CAR, CLASSES, ROAD, label_maps, slow_inside

from segedge.analyse.polygon import crossing_edges, polygon_spans
from segedge.analyse.zones import (
    Zone,
    ZoneRule,
    ZoneState,
    parse_zone,
    read_zones,
    zone_pixels,
    zones_of,
)
from segedge.errors import UsageError

SQUARE = ((2.0, 1.0), (6.0, 1.0), (6.0, 4.0), (2.0, 4.0))
quarters = st.integers(-12, 60).map(lambda n: n / 4)
polygons = st.lists(st.tuples(quarters, quarters), min_size=3, max_size=7)


def pixels_of(spans: NDArray[np.int32], height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    for row, begin, end in spans:
        assert not mask[row, begin:end].any()
        mask[row, begin:end] = True
    return mask


@settings(deadline=None, max_examples=60)
@given(polygons, st.integers(1, 12), st.integers(1, 12))
def test_pixels_are_those_with_their_centre_inside(
    points: list[tuple[float, float]], height: int, width: int
) -> None:
    mask = pixels_of(polygon_spans(points, height, width), height, width)
    for y in range(height):
        for x in range(width):
            assert mask[y, x] == slow_inside(points, x, y)


@settings(deadline=None, max_examples=60)
@given(label_maps(), polygons)
def test_counts(labels: NDArray[Any], points: list[tuple[float, float]]) -> None:
    assume(crossing_edges(points) is None)
    spans = polygon_spans(points, *labels.shape)
    assume(len(spans))
    assume(not all(0 <= v <= 1 for point in points for v in point))
    mask = pixels_of(spans, *labels.shape)
    counts = np.bincount(labels[mask], minlength=len(CLASSES))
    found = zone_pixels(labels, Zone("z", tuple(points)), CLASSES)
    assert found == {name: n for name, n in zip(CLASSES, counts, strict=True) if n}


def test_shares_of_the_whole_image_are_all_pixels() -> None:
    whole = parse_zone("all=0,0 1,0 1,1 0,1")
    labels = np.full((7, 9), CAR, np.uint8)
    labels[0, 0] = ROAD
    assert zone_pixels(labels, whole, CLASSES) == {"car": 62, "road": 1}
    halves = [parse_zone("a=0,0 0.5,0 0.5,1 0,1"), parse_zone("b=.5,0 1,0 1,1 .5,1")]
    assert sum(sum(zone_pixels(labels, z, CLASSES).values()) for z in halves) == 63


@settings(deadline=None, max_examples=60)
@given(polygons)
def test_edges_that_cross_are_found(points: list[tuple[float, float]]) -> None:
    """Against a slow truth: edges cut into points of a fine grid share one they should not."""
    crossing = crossing_edges(points)
    edges = list(zip(points, [*points[1:], points[0]], strict=True))

    def proper(a: Any, b: Any) -> bool:
        (p, q), (r, s) = a, b
        matrix = np.array([[q[0] - p[0], r[0] - s[0]], [q[1] - p[1], r[1] - s[1]]])
        if abs(np.linalg.det(matrix)) < 1e-12:
            return False
        t, u = np.linalg.solve(matrix, np.subtract(r, p))
        return bool(1e-9 < t < 1 - 1e-9 and 1e-9 < u < 1 - 1e-9)

    pairs = [(a, b) for a in range(len(edges)) for b in range(a + 1, len(edges))]
    if any(proper(edges[a], edges[b]) for a, b in pairs):
        assert crossing is not None


@pytest.mark.parametrize(
    ("points", "crosses"),
    [
        (SQUARE, False),
        (((0, 0), (4, 0), (4, 4), (2, 1), (0, 4)), False),  # not convex
        (((0, 0), (4, 4), (4, 0), (0, 4)), True),  # a bow tie
        (((0, 0), (4, 0), (2, 0), (2, 4)), True),  # turns back upon itself
        (((0, 0), (0, 0), (4, 0), (2, 4)), True),  # a point twice
        (((0, 0), (4, 0), (4, 4), (2, 0), (0, 4)), True),  # a corner touches an edge
    ],
)
def test_crossings(points: tuple[tuple[float, float], ...], crosses: bool) -> None:
    assert (crossing_edges(points) is not None) == crosses


@pytest.mark.parametrize(
    "text", ["gate=2,1 6,1 6,4 2,4", "gate = 2,1;6,1;6,4;2,4", "gate=2,1,6,1,6,4,2,4"]
)
def test_spellings(text: str) -> None:
    assert parse_zone(text) == Zone("gate", SQUARE)
    assert not parse_zone(text).is_relative


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "zones.json"
    square = [list(point) for point in SQUARE]
    path.write_text(json.dumps({"a": square, "b": {"polygon": square, "classes": ["car"]}}))
    both = [Zone("a", SQUARE), Zone("b", SQUARE, ("car",))]
    assert read_zones(path) == both
    assert zones_of([str(path), "c=0,0 1,0 1,1"])[:2] == both


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gate", "no zone 'gate'"),
        ("gate=1,2,3", "no zone"),
        ("gate=a,b c,d e,f", "no zone"),
        ("gate=nan,1 2,2 3,0", "no zone"),
        ("gate=inf,1 2,2 3,0", "not finite"),
        ("=0,0 1,0 1,1", "without a name"),
        ("gate=0,0 1,1", "has 2 points, a polygon has at least 3"),
        ("gate=", "has 0 points"),
        ("gate=0,0 4,4 4,0 0,4", r"crosses itself[\s\S]*\(0, 0\) to \(4, 4\)"),
        ("gate=0,0 1,1 2,2", "crosses itself|is a line"),
    ],
)
def test_refused_spellings(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_zone(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read zones"),
        ("[]", "holds no zones"),
        ('{"a": 3}', "zone 'a' in .* cannot be read"),
        ('{"a": [[0, 0], [1, 0], [1]]}', "cannot be read"),
        ('{"a": {"polygon": [[0,0],[1,0],[1,1]], "clases": []}}', "did you mean 'classes'"),
    ],
)
def test_refused_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "zones.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_zones(path)


def test_more_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read zones"):
        read_zones(tmp_path / "none.json")
    with pytest.raises(UsageError, match="two zones of the name 'a'"):
        zones_of(["a=0,0 1,0 1,1", "a=0,0 1,0 1,1"])
    with pytest.raises(UsageError, match=r"'far' covers no pixel[\s\S]*x 90 to 99[\s\S]*10x8"):
        parse_zone("far=90,0 99,0 99,5").spans(8, 10)
    with pytest.raises(UsageError, match="covers no pixel"):
        parse_zone("tiny=0.5,0.5 0.501,0.5 0.501,0.501").spans(8, 10)
    assert len(parse_zone("part=-5,-5 3,-5 3,3 -5,3").spans(8, 10)) == 3


def run(rule: ZoneRule, shares: list[float], fps: float | None = 10) -> list[str | None]:
    state = ZoneState(rule)
    return [state.update(s, None if fps is None else n / fps) for n, s in enumerate(shares)]


def test_hysteresis() -> None:
    rule = ZoneRule(enter_share=0.2, leave_share=0.1)
    assert run(rule, [0.0, 0.19, 0.2, 0.15, 0.1, 0.09, 0.19, 0.3]) == [
        None, None, "enter", None, None, "leave", None, "enter",
    ]  # fmt: skip


def test_a_change_must_last() -> None:
    rule = ZoneRule(enter_share=0.2, leave_share=0.1, hold_seconds=0.25)
    shares = [0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    events = run(rule, shares)
    assert [(n, e) for n, e in enumerate(events) if e] == [(6, "enter"), (12, "leave")]
    state = ZoneState(rule)
    for n, share in enumerate(shares[:7]):
        state.update(share, n / 10)
    assert state.since_seconds == pytest.approx(0.3)


def test_still_images_are_not_waited_for() -> None:
    assert run(ZoneRule(hold_seconds=5), [0.5, 0.0], fps=None) == ["enter", "leave"]


def test_a_clock_that_goes_back_waits_anew() -> None:
    state = ZoneState(ZoneRule(hold_seconds=1))
    assert [state.update(0.5, t) for t in (9.0, 0.0, 0.9, 1.0)] == [None, None, None, "enter"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0, 0.5))
def test_events_alternate(shares: list[float], hold: float) -> None:
    events = [e for e in run(ZoneRule(hold_seconds=hold), shares) if e]
    assert events == ["enter", "leave"] * (len(events) // 2) + ["enter"] * (len(events) % 2)


@pytest.mark.parametrize(
    "wrong",
    [{"enter_share": -0.1}, {"enter_share": 2.0}, {"leave_share": 0.5}, {"leave_share": 0.0}],
)
def test_refused_rules(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="entered at a share"):
        ZoneRule(**wrong)
    with pytest.raises(UsageError, match="no time to wait: -1 s"):
        ZoneRule(hold_seconds=-1)


def test_files_of_windows_editors(tmp_path: Path) -> None:
    path = tmp_path / "zones.json"
    path.write_bytes(b'\xef\xbb\xbf{\r\n"gate": [[0, 0], [9, 0], [9, 9]]\r\n}')
    assert [zone.name for zone in read_zones(path)] == ["gate"]
    path.write_bytes(b'{"gate":\n [[0, 0], [9, 0]\n')
    with pytest.raises(UsageError, match="cannot read zones") as caught:
        read_zones(path)
    assert "line 3" in caught.value.facts["found"]
