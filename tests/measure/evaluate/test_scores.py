"""Confusion matrix and boundary F-score: hand-worked cases and a slow truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segedge.errors import UsageError
from segedge.measure.evaluate.boundary import boundary_scores
from segedge.measure.evaluate.confusion import Confusion


def test_a_hand_worked_matrix() -> None:
    confusion = Confusion(("road", "car", "sky"))
    truth = np.array([[0, 0, 0, 1], [1, 1, -1, -1]])
    confusion.add(truth, np.array([[0, 0, 1, 1], [1, 0, 2, 0]]))
    assert confusion.matrix.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert confusion.pixels == 6
    assert confusion.iou_per_class == {"road": 0.5, "car": 0.5, "sky": None}
    assert confusion.miou == 0.5
    assert confusion.pixel_accuracy == pytest.approx(4 / 6)
    assert confusion.mean_accuracy == pytest.approx(2 / 3)


def test_a_class_only_predicted_counts_with_zero() -> None:
    confusion = Confusion(("a", "b"))
    confusion.add(np.zeros((2, 2), int), np.array([[0, 0], [0, 1]]))
    assert confusion.iou_per_class == {"a": 0.75, "b": 0.0}
    assert confusion.mean_accuracy == 0.75


def test_nothing_counts() -> None:
    confusion = Confusion(("a", "b"))
    confusion.add(np.full((2, 2), -1), np.zeros((2, 2), int))
    assert confusion.pixels == 0
    assert math.isnan(confusion.miou)
    assert math.isnan(confusion.pixel_accuracy)


def test_bad_labels() -> None:
    confusion = Confusion(("a", "b"))
    with pytest.raises(UsageError, match="different sizes"):
        confusion.add(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(UsageError, match="truth holds labels"):
        confusion.add(np.full((2, 2), 2), np.zeros((2, 2), int))
    with pytest.raises(UsageError, match="prediction holds labels"):
        confusion.add(np.zeros((2, 2), int), np.full((2, 2), 7))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_equals_the_definition(classes: int, side: int, seed: int) -> None:
    """IoU of a class by sets of pixels, two images added up."""
    random = np.random.default_rng(seed)
    truths = [random.integers(-1, classes, (side, side)) for _ in range(2)]
    found = [random.integers(0, classes, (side, side)).astype(np.uint8) for _ in range(2)]
    confusion = Confusion(tuple(map(str, range(classes))))
    for truth, prediction in zip(truths, found, strict=True):
        one = Confusion(confusion.classes)
        one.add(truth, prediction)
        confusion.merge(one)
    truth, prediction = np.concatenate(truths), np.concatenate(found)
    counted = truth >= 0
    expected = []
    for label in range(classes):
        true, claimed = (truth == label) & counted, (prediction == label) & counted
        union = np.count_nonzero(true | claimed)
        expected.append(np.count_nonzero(true & claimed) / union if union else np.nan)
    np.testing.assert_allclose(confusion.iou, expected)


def slow_boundary(
    truth: NDArray[np.int64], found: NDArray[np.int64], classes: int, reach: float
) -> list[float]:
    """The definition, pixel by pixel."""
    height, width = truth.shape

    def outline(labels: NDArray[np.int64], label: int) -> list[tuple[int, int]]:
        pixels = []
        for y in range(height):
            for x in range(width):
                around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
                inside = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]
                if labels[y, x] == label and truth[y, x] >= 0 and any(
                    labels[p] != label and truth[p] >= 0 for p in inside
                ):  # fmt: skip
                    pixels.append((y, x))
        return pixels

    def share(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        near = [min(math.dist(p, q) for q in others) <= reach for p in some]
        return sum(near) / len(near)

    scores = []
    for label in range(classes):
        a, b = outline(truth, label), outline(found, label)
        if not a and not b:
            scores.append(math.nan)
        elif not a or not b:
            scores.append(0.0)
        else:
            recall, precision = share(a, b), share(b, a)
            both = precision + recall
            scores.append(2 * precision * recall / both if both else 0.0)
    return scores


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.3]))
def test_boundary_equals_the_definition(classes: int, seed: int, tolerance: float) -> None:
    random = np.random.default_rng(seed)
    truth, found = (
        np.kron(random.integers(low, classes, (3, 4)), np.ones((3, 3), int)) for low in (-1, 0)
    )
    scores = boundary_scores(truth, found, classes=classes, tolerance=tolerance)
    reach = tolerance * math.hypot(*truth.shape)
    np.testing.assert_allclose(scores, slow_boundary(truth, found, classes, reach), atol=1e-6)


def test_an_outline_that_is_off_by_more_than_the_tolerance() -> None:
    truth, found = np.zeros((40, 40), int), np.zeros((40, 40), int)
    truth[:, 20:], found[:, 22:] = 1, 1
    assert boundary_scores(truth, found, classes=2, tolerance=3 / 56).tolist() == [1.0, 1.0]
    assert boundary_scores(truth, found, classes=2, tolerance=1 / 57).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("tolerance", [0.005, 0.01, 0.02, 0.03])
def test_discs_and_distances_give_the_same_boundary_scores(
    tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    truth, prediction = rng.integers(-1, 3, (2, 90, 120))
    truth[20:60, 30:80], prediction[24:61, 29:77] = 1, 1
    scores = []
    for largest in (0, 99):
        monkeypatch.setattr("segedge.measure.evaluate.boundary._LARGEST_DISC", largest)
        found = boundary_scores(truth, prediction.clip(0), classes=3, tolerance=tolerance)
        scores.append(found)
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_any_type_of_labels_is_counted_alike(dtype: str) -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.integers(0, 7, 400), rng.integers(1, 9, 400))
    prediction = np.where(rng.random(truth.size) < 0.2, (truth + 3) % 7, truth)
    expected = np.zeros((7, 7), np.int64)
    np.add.at(expected, (truth[truth != 2], prediction[truth != 2]), 1)
    confusion = Confusion(tuple("abcdefg"))
    confusion.add(truth.astype(dtype), prediction.astype(dtype), ignore=2)
    np.testing.assert_array_equal(confusion.matrix, expected)


def test_labels_that_are_far_off_leave_the_matrix_alone() -> None:
    confusion = Confusion(("a", "b"))
    for far in (2**32, -(2**40)):
        with pytest.raises(UsageError, match="truth holds labels that name no class"):
            confusion.add(np.array([0, far]), np.array([0, 0]))
        with pytest.raises(UsageError, match="prediction holds labels"):
            confusion.add(np.array([0, 1]), np.array([far, 1]))
    assert not confusion.matrix.any()
    confusion.add(np.array([[], []], int), np.array([[], []], int))
    assert not confusion.matrix.any()
