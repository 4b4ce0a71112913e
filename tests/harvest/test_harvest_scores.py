"""Grids, scores and hashes, against slow truths."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from harvests import CLASSES, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.harvest.grid import Grid, grid_of
from segedge.harvest.hashing import difference_hash, distances
from segedge.harvest.options import HarvestOptions, parse_bytes
from segedge.harvest.scores import Baseline, Presence, Scorer, Usual, drift, flicker, read_baseline


def result_of(logits: NDArray[Any], **card: Any) -> Any:
    fields: dict[str, Any] = {
        "classes": CLASSES, "palette_rgb": ((0, 0, 0),) * 3, "input_height": 48, "input_width": 64,
        "stride": 8,
    }  # fmt: skip
    return SimpleNamespace(logits=logits, card=ModelCard(**{**fields, **card}))


def frame_of(height: int = 48, width: int = 64) -> Frame:
    return Frame(np.zeros((height, width, 3), np.uint8))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["float32", "float16"]), st.booleans())
def test_labels_and_doubt_are_those_of_the_softmax(seed: int, dtype: str, nhwc: bool) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (1, 3, 6, 8)).astype(dtype)
    scores = logits[0].astype(np.float64)
    shares = np.exp(scores) / np.exp(scores).sum(axis=0)
    ordered = np.sort(shares, axis=0)
    layout = {"logits_layout": "nhwc"} if nhwc else {}
    output = np.moveaxis(logits, 1, -1) if nhwc else logits
    grid = grid_of(frame_of(), result_of(output, **layout))
    assert np.array_equal(grid.labels, scores.argmax(axis=0))
    assert grid.doubt is not None
    assert np.allclose(grid.doubt, 1 - (ordered[-1] - ordered[-2]), atol=1e-5)
    assert np.allclose(grid.shares, [(grid.labels == c).mean() for c in range(3)])


def test_sigmoid_heads_and_heads_of_labels() -> None:
    logits = np.array([-2.0, 0.5, 0.0, 3.0], np.float32).reshape(1, 1, 2, 2)
    two = {"classes": ("no", "yes"), "palette_rgb": ((0, 0, 0),) * 2}
    grid = grid_of(frame_of(), result_of(logits, activation="sigmoid", **two))
    assert grid.labels.tolist() == [[0, 1], [0, 1]]
    yes = 1 / (1 + np.exp(-logits[0, 0]))
    assert grid.doubt is not None
    assert np.allclose(grid.doubt, 1 - abs(2 * yes - 1), atol=1e-6)
    labels = np.array([[0, 1], [2, 2]], np.uint8)[None]
    grid = grid_of(frame_of(), result_of(labels, head="labels", stride=1))
    assert grid.doubt is None
    assert grid.shares.tolist() == [0.25, 0.25, 0.5]


def test_probabilities_are_taken_as_they_are() -> None:
    """A network that ends at its softmax, and one at its sigmoid, whose output is less a half."""
    shares = np.array([[0.2, 0.6], [0.7, 0.3], [0.1, 0.1]], np.float32).reshape(1, 3, 1, 2)
    grid = grid_of(frame_of(), result_of(shares, probabilities=True))
    assert grid.labels.tolist() == [[1, 0]]
    assert grid.doubt is not None
    assert np.allclose(grid.doubt, [[0.5, 0.7]], atol=1e-6)
    two = {"classes": ("no", "yes"), "palette_rgb": ((0, 0, 0),) * 2, "activation": "sigmoid"}
    yes = np.array([0.1, 0.5, 0.9], np.float32).reshape(1, 1, 1, 3)
    grid = grid_of(frame_of(), result_of(yes - 0.5, probabilities=True, **two))
    assert grid.labels.tolist() == [[0, 0, 1]]
    assert grid.doubt is not None
    assert np.allclose(grid.doubt, [[0.2, 1.0, 0.2]], atol=1e-6)


def test_borders_of_a_letterbox_are_left_out() -> None:
    logits = np.zeros((1, 3, 6, 8), np.float32)
    logits[0, 2] = 5.0  # the border
    logits[0, 1, :, 2:6] = 9.0
    grid = grid_of(frame_of(96, 64), result_of(logits, fit="letterbox"))
    assert grid.shares.tolist() == [0.0, 1.0, 0.0]


def test_large_grids_are_thinned_out() -> None:
    logits = np.zeros((1, 3, 200, 300), np.float32)
    grid = grid_of(frame_of(), result_of(logits, stride=1, input_height=200, input_width=300))
    assert grid.labels.shape == (50, 100)
    assert grid.luma.shape == (50, 100)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite(bad: float) -> None:
    logits = np.zeros((1, 3, 6, 8), np.float32)
    logits[0, 1, 2, 3] = bad
    grid = grid_of(frame_of(), result_of(logits))
    assert grid.doubt is not None
    assert np.isfinite(grid.doubt).all()


def small(labels: list[list[int]], luma: list[list[int]]) -> Grid:
    array = np.array(labels)
    shares = np.bincount(array.reshape(-1), minlength=3) / array.size
    doubt = np.zeros(array.shape, np.float32)
    return Grid(array, doubt, np.array(luma, np.uint8), shares)


def test_flicker_counts_changes_where_the_image_is_still() -> None:
    before = small([[0, 0], [1, 1]], [[10, 10], [200, 200]])
    assert flicker(before, small([[0, 1], [1, 2]], [[12, 15], [199, 10]])) == 0.25
    assert flicker(before, small([[1, 1], [2, 2]], [[90, 90], [10, 10]])) == 0.0  # a cut
    scorer, baseline = Scorer(), Baseline.unknown(3)
    assert "flicker" not in scorer(before, baseline, moving=True).values
    assert scorer(before, baseline, moving=True).values["flicker"] == 0.0
    assert "flicker" not in scorer(before, baseline, moving=False).values


shares = st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda v: sum(v) > 0.1)


@given(shares, shares)
def test_drift_is_a_divergence(a: list[float], b: list[float]) -> None:
    p, q = np.array(a) / sum(a), np.array(b) / sum(b)
    assert drift(p, p) < 1e-9
    assert 0 <= drift(p, q) <= 1
    assert drift(p, q) == pytest.approx(drift(q, p), abs=1e-12)
    assert drift(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(1)


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0, 1))
def test_bits_are_the_rank(values: list[float], value: float) -> None:
    usual = Usual()
    for v in values:
        usual.add(v)
    root = math.floor(min(math.sqrt(value) * 512, 511))
    as_much = sum(math.floor(min(math.sqrt(v) * 512, 511)) >= root for v in values)
    assert usual.bits(value) == pytest.approx(-math.log2((as_much + 1) / (len(values) + 1)))


def test_rare_classes() -> None:
    presence = Presence(np.zeros(3, np.int64))
    for _ in range(63):
        presence.add((0, 1))
    assert presence.rarest((0, 2)) == 2
    assert presence.rarest(()) is None
    assert presence.bits(2) == 6.0
    assert presence.bits(0) == 0.0
    assert presence.share(1) == 1.0


def test_a_baseline_learns_the_mean() -> None:
    baseline = Baseline.unknown(2)
    assert baseline.usual().tolist() == [0.5, 0.5]
    for seen in ([1.0, 0.0], [0.5, 0.5]):
        baseline.add(np.array(seen))
    assert baseline.shares.tolist() == [0.75, 0.25]
    assert baseline.usual().tolist() == pytest.approx([2 / 3, 1 / 3])


def test_baselines_from_files(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    for data in ({"dark": 30, "bright": 10}, {"class_shares": {"dark": 0.75, "bright": 0.25}}):
        path.write_text(json.dumps(data))
        baseline = read_baseline(path, CLASSES)
        baseline.add(np.array([0, 1.0, 0]))
        assert baseline.usual().tolist() == [0.75, 0.0, 0.25]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read a baseline"),
        ("[]", "holds no baseline"),
        ('{"dark": -1}', "holds no baseline"),
        ('{"dark": NaN}', "holds no baseline"),
        ('{"dark": 1e308, "bright": 1e308}', "holds no baseline"),
        ('{"dark": 0}', "all shares are 0"),
        ('{"drak": 1}', "did you mean 'dark'"),
    ],
)
def test_refused_baselines(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_baseline(path, CLASSES)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=9), st.integers(0, 2**64 - 1))
def test_distances_count_bits(hashes: list[int], other: int) -> None:
    found = distances(np.array(hashes, np.uint64), other)
    assert found.tolist() == [(h ^ other).bit_count() for h in hashes]


def test_hashes_tell_pictures_apart() -> None:
    hashes = [difference_hash(Frame(picture(seed, size=(240, 320)))) for seed in range(20)]
    far = [(a ^ b).bit_count() for n, a in enumerate(hashes) for b in hashes[:n]]
    assert min(far) > 12
    image = picture(3, size=(240, 320))
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 4, image.shape), 0, 255)
    packed = cv2.imdecode(cv2.imencode(".jpg", noisy.astype(np.uint8))[1], cv2.IMREAD_COLOR)
    half = cv2.resize(packed, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert (difference_hash(Frame(np.asarray(half, np.uint8))) ^ hashes[3]).bit_count() <= 4


@pytest.mark.parametrize(
    ("text", "count"),
    [("500MB", 5e8), ("2 GB", 2e9), ("750k", 750_000), ("1.5mb", 1.5e6), ("9", 9)],
)
def test_sizes(text: str, count: float) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "0", "-5MB", "MB", "5 MiB", "nan", "0.1"])
def test_refused_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="no size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget_bytes": -1}, "a budget is more than nothing, found -1"),
        ({"top_share": 0.0}, "a share lies above 0"),
        ({"top_share": 1.5}, "found 1.5"),
        ({"distance": -1}, "differ in 0 to 64, found -1"),
    ],
)
def test_refused_options(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HarvestOptions(Path("x"), **wrong)
