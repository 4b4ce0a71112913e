"""The drivable area and the obstacles, against slow truths."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import CAR, CLASSES, PAVEMENT, PERSON, ROAD, SKY, label_maps, slow_obstacle, slow_region

from segedge.analyse.road import Nearest, RoadOptions, find_road
from segedge.card.labels import label_set
from segedge.errors import UsageError


@settings(deadline=None, max_examples=60)
@given(label_maps(), st.sampled_from([0.0, 0.2, 0.5, 0.99]))
def test_the_area_is_the_largest_region_at_the_bottom(labels: NDArray[Any], bonnet: float) -> None:
    road = find_road(labels, CLASSES, RoadOptions(bonnet_share=bonnet))
    bottom = max(0, labels.shape[0] - 1 - int(labels.shape[0] * bonnet))
    expected = slow_region(labels == ROAD, bottom)
    assert np.array_equal(road.mask, expected)
    assert road.area_px == expected.sum()
    assert road.area_share == expected.mean()
    for row, inside in enumerate(expected):
        columns = np.flatnonzero(inside)
        ends = (columns[0], columns[-1]) if columns.size else (-1, -1)
        assert (road.left_x[row], road.right_x[row]) == ends


@settings(deadline=None, max_examples=60)
@given(label_maps(), st.integers(1, 4), st.sampled_from([0.0, 0.4]))
def test_obstacles_are_the_first_from_the_bottom(
    labels: NDArray[Any], least: int, bonnet: float
) -> None:
    options = RoadOptions(bonnet_share=bonnet, least_obstacle_px=least)
    road = find_road(labels, CLASSES, options)
    bottom = max(0, labels.shape[0] - 1 - int(labels.shape[0] * bonnet))
    obstacle = np.isin(labels, [CAR, PERSON])
    for x in range(labels.shape[1]):
        row = slow_obstacle(obstacle[:, x], bottom, least)
        assert road.obstacle_y[x] == row
        assert road.obstacle_label[x] == (labels[row, x] if row >= 0 else -1)


@settings(deadline=None, max_examples=60)
@given(label_maps())
def test_other_strides_change_nothing(labels: NDArray[Any]) -> None:
    padded = np.zeros((labels.shape[0] * 2, labels.shape[1] + 3), labels.dtype)
    padded[::2, : labels.shape[1]] = labels
    view, same = padded[::2, : labels.shape[1]], find_road(labels, CLASSES)
    assert np.array_equal(find_road(view, CLASSES).mask, same.mask)
    assert np.array_equal(find_road(view, CLASSES).obstacle_y, same.obstacle_y)


@settings(deadline=None, max_examples=60)
@given(label_maps(most=40))
def test_the_polygon_is_the_area_again(labels: NDArray[Any]) -> None:
    """What the polygon encloses lies within two pixels of the area, and the other way round."""
    labels = cv2.resize(labels, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    road = find_road(labels, CLASSES)
    if not road.area_px:
        assert road.polygon.shape == (0, 2)
        assert road.holes == []
        return
    filled = np.zeros(labels.shape, np.uint8)
    cv2.fillPoly(filled, [road.polygon], 1)
    for hole in road.holes:
        inner = np.zeros(labels.shape, np.uint8)
        cv2.fillPoly(inner, [hole], 1)
        filled[(inner == 1) & ~road.mask] = 0
    disc = cv2.getStructuringElement(cv2.MORPH_RECT, (7, 7))
    mask = road.mask.astype(np.uint8)
    assert not (filled & ~cv2.dilate(mask, disc)).any()
    assert not (mask & ~cv2.dilate(filled, disc)).any()


def street() -> NDArray[np.uint8]:
    """Road between pavements, a car on it, a person on the left pavement, sky above."""
    labels = np.full((20, 30), SKY, np.uint8)
    labels[8:] = PAVEMENT
    labels[8:, 10:20] = ROAD
    labels[9:13, 13:16] = CAR
    labels[10:17, 3:5] = PERSON
    return labels


def test_the_nearest_obstacles() -> None:
    road = find_road(street(), CLASSES)
    assert road.nearest == Nearest(4, 16, "person")
    assert road.nearest_on_road == Nearest(15, 12, "car")
    assert [ring.shape[1] for ring in road.holes] == [2]
    nothing = find_road(np.full((4, 5), SKY, np.uint8), CLASSES)
    assert (nothing.nearest, nothing.nearest_on_road, nothing.area_px) == (None, None, 0)


def test_named_classes() -> None:
    options = RoadOptions(drivable=("road", "pavement"), obstacles=("car",))
    road = find_road(street(), CLASSES, options)
    assert road.left_x[19] == 0
    assert road.right_x[19] == 29
    assert road.nearest == Nearest(15, 12, "car")


def test_a_bonnet_hides_the_rows_below() -> None:
    labels = street()
    labels[17:] = CAR
    assert find_road(labels, CLASSES).area_px == 0
    road = find_road(labels, CLASSES, RoadOptions(bonnet_share=0.15))
    assert road.left_x[16] == 10
    assert road.left_x[17] == -1
    assert road.nearest_on_road == Nearest(15, 12, "car")


@pytest.mark.parametrize("name", ["cityscapes", "camvid", "ade20k"])
def test_label_sets_have_a_road(name: str) -> None:
    """A picture that is all road is, and one of the class after it is not."""
    names = label_set(name).names
    RoadOptions().check(names)
    road = names.index("road")
    labels = np.full((20, 30), road, np.uint8)
    assert find_road(labels, names).area_px == labels.size
    sky = np.full((20, 30), names.index("sky"), np.uint8)
    assert find_road(sky, names).area_px == 0


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no class that is known to be drivable"):
        RoadOptions().check(label_set("voc").names)
    with pytest.raises(UsageError, match="no class 'raod'; did you mean 'road'"):
        RoadOptions(drivable=("raod",)).check(CLASSES)
    with pytest.raises(UsageError, match="no class 'cra'; did you mean 'car'"):
        RoadOptions(obstacles=("cra",)).check(CLASSES)
    with pytest.raises(UsageError, match="'road' is drivable and an obstacle"):
        RoadOptions(obstacles=("road",)).check(CLASSES)
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match="share of the height from 0 to below 1"):
            RoadOptions(bonnet_share=share)
    with pytest.raises(UsageError, match="at least 1 pixel, found -3"):
        RoadOptions(least_obstacle_px=-3)
