"""Pixels to metres: against a camera whose height and tilt are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.analyse.ground import Ground, read_ground
from segedge.errors import UsageError

SIZE = (360, 480)
FOCAL_PX, HEIGHT_M, TILT = 400.0, 1.4, 0.1


def pixel_of(right_m: float, forward_m: float) -> tuple[float, float]:
    """Where a pinhole camera 1.4 m above the ground, looking slightly down, sees a point of it."""
    depth = forward_m * np.cos(TILT) + HEIGHT_M * np.sin(TILT)
    down = HEIGHT_M * np.cos(TILT) - forward_m * np.sin(TILT)
    return 239.5 + FOCAL_PX * right_m / depth, 179.5 + FOCAL_PX * down / depth


def write(path: Path, places: list[tuple[float, float]], **extra: Any) -> Path:
    points = [{"pixel": list(pixel_of(*place)), "ground_m": list(place)} for place in places]
    path.write_text(json.dumps({"points": points, **extra}))
    return path


CORNERS = [(-2.0, 4.0), (2.0, 4.0), (-3.0, 20.0), (3.0, 20.0)]


@pytest.mark.parametrize("more", [[], [(0.0, 10.0), (1.0, 7.0)]])
def test_four_points_and_more_give_the_camera_back(
    tmp_path: Path, more: list[tuple[float, float]]
) -> None:
    ground = read_ground(write(tmp_path / "g.json", CORNERS + more))
    assert ground.error_m is not None
    assert ground.error_m < 1e-4
    places = np.array([(-1.5, 6.0), (0.0, 12.0), (4.0, 30.0)])
    pixels = np.array([pixel_of(*place) for place in places])
    found = ground.positions_m(pixels[:, 0], pixels[:, 1], SIZE)
    assert np.allclose(found, places, atol=1e-4)
    assert np.allclose(
        ground.distances_m(pixels[:, 0], pixels[:, 1], SIZE),
        np.linalg.norm(places, axis=1),
        atol=1e-4,
    )


def test_beyond_the_horizon_there_is_no_ground(tmp_path: Path) -> None:
    ground = read_ground(write(tmp_path / "g.json", CORNERS))
    horizon = 179.5 - FOCAL_PX * np.tan(TILT)
    rows = np.array([0.0, horizon - 1, horizon + 1, 359.0])
    distances = ground.distances_m(np.full(4, 239.5), rows, SIZE)
    assert np.isnan(distances[:2]).all()
    assert np.isfinite(distances[2:]).all()
    assert distances[2] > 100 > distances[3]
    # the same plane, its matrix with the other sign
    turned = Ground(-ground.image_to_ground)
    again = turned.distances_m(np.full(4, 239.5), rows, SIZE)
    assert np.allclose(again, distances, equal_nan=True)


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 479), st.floats(200, 359), st.sampled_from([2, 4]))
def test_frames_of_another_size(x: float, y: float, factor: int) -> None:
    matrix = np.array([[0.01, 0, -2.4], [0, -0.02, 9], [0, 0.002, -0.3]])
    ground = Ground(matrix, image_size=SIZE)
    size = (SIZE[0] * factor, SIZE[1] * factor)
    scaled = ((np.array([x, y]) + 0.5) * factor - 0.5).reshape(2, 1)
    small = ground.positions_m(np.array([x]), np.array([y]), SIZE)
    assert np.allclose(ground.positions_m(scaled[0], scaled[1], size), small)


def test_a_matrix(tmp_path: Path) -> None:
    matrix = [[0.01, 0, -2.4], [0, -0.02, 9], [0, 0.002, -0.3]]
    for number, data in enumerate([matrix, {"image_to_ground": matrix, "image_size": [480, 360]}]):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(data))
        assert read_ground(path).image_to_ground.tolist() == matrix
    assert read_ground(path).image_size == SIZE


def points(*rows: tuple[Any, Any]) -> str:
    return json.dumps({"points": [{"pixel": p, "ground_m": g} for p, g in rows]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read a homography"),
        ("3", "holds no homography"),
        ("{}", "holds no homography"),
        ("[[1, 2], [3, 4]]", "holds no homography"),
        ('[[1, 0, 0], [0, 1, 0], [0, "a", 1]]', "holds no homography"),
        ("[[1, 0, 0], [0, 1, 0], [0, 0, NaN]]", "3x3 finite numbers"),
        ("[[1, 0, 0], [0, 1, 0], [1, 1, 0]]", "is singular"),
        ("[[1, 0, 0], [0, 0, 0], [0, 0, 1]]", "is singular"),
        ('{"image_to_ground": [[1,0,0],[0,1,0],[0,0,1]], "imagesize": [1, 1]}', "did you mean"),
        ('{"image_to_ground": [[1,0,0],[0,1,0],[0,0,1]], "image_size": [-4, 3]}', "no image size"),
        (points(([0, 0], [0, 0]), ([1, 0], [1, 0]), ([1, 1], [1, 1])), "has 3 points"),
        (
            points(([0, 0], [0, 0]), ([1, 1], [1, 0]), ([2, 2], [1, 1]), ([3, 0], [0, 1])),
            "lie on a line",
        ),
        (
            points(([0, 0], [0, 0]), ([1, 0], [1, 1]), ([1, 1], [2, 2]), ([0, 1], [3, 3])),
            "lie on a line",
        ),
        (points(([0], [0, 0])), "has 1 points"),
    ],
)
def test_refusals(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "g.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_ground(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read a homography"):
        read_ground(tmp_path / "none.json")


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "ground.json"
    path.write_bytes(b"\xef\xbb\xbf[[1, 0, 0], [0, 1, 0], [0, 0, 1]]\r\n")
    assert read_ground(path).image_to_ground[0][0] == 1.0
