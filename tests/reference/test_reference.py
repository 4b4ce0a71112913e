"""The reference against what others compute: torch, OpenCV, Pillow."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, Geometry, Size
from segedge.errors import ModelError
from segedge.reference import frame as reference
from segedge.reference.resize import PILLOW, axis_matrix
from tests.cpu.cases import a_card

torch = pytest.importorskip("torch")
F = torch.nn.functional

lengths = st.integers(1, 40)


def raw_card(rule: str) -> ModelCard:
    """Values stay 0..255, in the frame's order: what a plain resize gives."""
    unit = (1 / 255,) * 3
    return a_card(resize=rule, color="bgr", mean=(0.0, 0.0, 0.0), std=unit)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), np.uint8
    )


def resized(image: np.ndarray, rule: str, height: int, width: int) -> np.ndarray:
    geometry = Geometry.fit(Size(*image.shape[:2]), Size(height, width), "stretch")
    return reference.preprocess(image, raw_card(rule), geometry)


def as_torch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32).transpose(2, 0, 1)[None].copy())


@settings(deadline=None, max_examples=60)
@given(lengths, lengths, lengths, lengths, st.booleans())
def test_bilinear_and_antialias_equal_torch(h, w, oh, ow, antialias):
    # torch 2.13 resizes to a single column wrongly with antialias: every row is the first one.
    assume(not (antialias and ow == 1 and oh != h))
    image = noise(h, w)
    expected = F.interpolate(as_torch(image), (oh, ow), mode="bilinear", antialias=antialias)
    ours = resized(image, "antialias" if antialias else "bilinear", oh, ow)
    np.testing.assert_allclose(ours, expected.numpy(), atol=2e-3)


@settings(deadline=None, max_examples=60)
@given(lengths, lengths, lengths, lengths)
def test_nearest_equals_torch_nearest_exact(h, w, oh, ow):
    image = noise(h, w)
    ours = resized(image, "nearest", oh, ow)
    expected = F.interpolate(as_torch(image), (oh, ow), mode="nearest-exact").numpy()
    # A centre exactly on a border between two pixels goes up here; torch's float32 decides by
    # its rounding. Such centres exist only where (2 * i + 1) * length / (2 * output) is whole.
    rows = ((2 * np.arange(oh) + 1) * h) % (2 * oh) != 0
    columns = ((2 * np.arange(ow) + 1) * w) % (2 * ow) != 0
    assert np.array_equal(ours[:, :, rows][..., columns], expected[:, :, rows][..., columns])


@settings(deadline=None, max_examples=60)
@given(lengths, lengths, lengths, lengths)
def test_bilinear_equals_opencv_up_to_its_rounding(h, w, oh, ow):
    image = noise(h, w)
    theirs = cv2.resize(image, (ow, oh), interpolation=cv2.INTER_LINEAR)
    ours = resized(image, "bilinear", oh, ow)[0].transpose(1, 2, 0)
    assert np.abs(ours - theirs.reshape(oh, ow, 3)).max() <= 1.01  # OpenCV: 11-bit weights


@settings(deadline=None, max_examples=60)
@given(lengths, lengths, st.data())
def test_area_equals_opencv_when_both_axes_shrink(h, w, data):
    oh, ow = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    image = noise(h, w)
    theirs = cv2.resize(image.astype(np.float32), (ow, oh), interpolation=cv2.INTER_AREA)
    ours = resized(image, "area", oh, ow)[0].transpose(1, 2, 0)
    np.testing.assert_allclose(ours, theirs.reshape(oh, ow, 3), atol=0.05)


@settings(deadline=None, max_examples=40)
@given(lengths, lengths, lengths, lengths)
def test_antialias_equals_pillow_up_to_its_rounding(h, w, oh, ow):
    image = noise(h, w)
    theirs = np.asarray(Image.fromarray(image).resize((ow, oh), Image.Resampling.BILINEAR))
    ours = resized(image, "antialias", oh, ow)[0].transpose(1, 2, 0)
    assert np.abs(ours - theirs).max() <= 1.01  # Pillow rounds after each axis


@settings(deadline=None, max_examples=150)
@given(lengths, lengths, lengths, lengths, st.sampled_from(sorted(PILLOW)), st.booleans())
def test_rules_named_after_pillow_equal_it_to_the_bit(h, w, oh, ow, rule, hard):
    image = noise(h, w)
    if hard:  # overshoot, which Pillow cuts off after each axis
        image = np.where(image > 127, 255, 0).astype(np.uint8)
    code = Image.Resampling[rule.removeprefix("pillow-").upper()]
    # One axis a call: Pillow 13 begins with the columns of some shapes, all before it with rows.
    theirs = np.asarray(Image.fromarray(image).resize((ow, h), code).resize((ow, oh), code))
    ours = resized(image, rule, oh, ow)[0].transpose(1, 2, 0)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(lengths, lengths, lengths, lengths)
def test_nearest_equals_pillow(h, w, oh, ow):
    image = noise(h, w)
    theirs = np.asarray(Image.fromarray(image).resize((ow, oh), Image.Resampling.NEAREST))
    ours = resized(image, "nearest", oh, ow)[0].transpose(1, 2, 0)
    rows = ((2 * np.arange(oh) + 1) * h) % (2 * oh) != 0  # as above: Pillow adds up its positions
    columns = ((2 * np.arange(ow) + 1) * w) % (2 * ow) != 0
    np.testing.assert_allclose(ours[rows][:, columns], theirs[rows][:, columns])


def test_preprocess_normalises_in_the_networks_channel_order():
    image = np.zeros((2, 2, 3), np.uint8)
    image[...] = (10, 20, 30)  # B, G, R
    card = a_card(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    geometry = Geometry.fit(Size(2, 2), Size(2, 2), "stretch")
    tensor = reference.preprocess(image, card, geometry)
    expected = [(30 / 255 - 0.1) / 0.5, (20 / 255 - 0.2) / 0.25, (10 / 255 - 0.3) / 0.125]
    np.testing.assert_allclose(tensor[0, :, 0, 0], expected, rtol=1e-6)
    nhwc = reference.preprocess(image, card.replace(input_layout="nhwc"), geometry)
    assert np.array_equal(nhwc, tensor.transpose(0, 2, 3, 1))


def test_letterbox_borders_have_the_pad_value():
    geometry = Geometry.fit(Size(10, 20), Size(20, 20), "letterbox")
    tensor = reference.preprocess(noise(10, 20), raw_card("bilinear"), geometry)
    assert np.allclose(tensor[:, :, :5], 114)
    assert np.allclose(tensor[:, :, 15:], 114)
    np.testing.assert_allclose(tensor[0, :, 5:15].transpose(1, 2, 0), noise(10, 20), atol=1e-4)


def test_crop_cuts_the_overhang():
    geometry = Geometry.fit(Size(10, 20), Size(10, 10), "crop")
    tensor = reference.preprocess(noise(10, 20), raw_card("bilinear"), geometry)
    np.testing.assert_allclose(tensor[0].transpose(1, 2, 0), noise(10, 20)[:, 5:15], atol=1e-4)


def test_every_rule_keeps_a_constant():
    for rule in ("bilinear", "antialias", "nearest", "area"):
        matrix = axis_matrix(rule, AxisMap(2.7, 0.35), range(7), 19)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), lengths, lengths, st.integers(2, 6), st.booleans())
def test_labels_equal_torch_where_frame_and_network_agree(gh, gw, h, w, classes, align):
    logits = np.random.default_rng(gh * gw).normal(size=(1, classes, gh, gw)).astype(np.float32)
    card = a_card(classes, align_corners=align)
    geometry = Geometry.fit(Size(h, w), Size(h, w), "stretch")
    up = F.interpolate(torch.from_numpy(logits), (h, w), mode="bilinear", align_corners=align)
    np.testing.assert_allclose(
        reference.interpolate(logits, card, geometry), up[0].numpy(), atol=1e-4
    )
    ours = reference.labels(logits, card, geometry)
    unclear = reference.ambiguous(logits, card, geometry)
    assert np.array_equal(ours[~unclear], up.argmax(1)[0].numpy()[~unclear])
    probability = reference.confidence(logits, card, geometry)
    np.testing.assert_allclose(probability, up.softmax(1).amax(1)[0].numpy(), atol=1e-4)
    best = up.topk(2, 1).values[0].numpy()
    margin = reference.confidence(logits, card, geometry, kind="margin")
    np.testing.assert_allclose(margin, best[0] - best[1], atol=1e-4)


def test_sigmoid_is_two_classes_with_the_threshold_at_zero():
    card = a_card(2, activation="sigmoid")
    geometry = Geometry.fit(Size(1, 4), Size(1, 4), "stretch")
    logits = np.array([-2.0, 0.0, 1e-3, 3.0], np.float32).reshape(1, 1, 1, 4)
    assert reference.labels(logits, card, geometry).tolist() == [[0, 0, 1, 1]]
    p = 1 / (1 + np.exp(-np.abs(logits[0, 0])))
    np.testing.assert_allclose(reference.confidence(logits, card, geometry), p, rtol=1e-6)
    margin = reference.confidence(logits, card, geometry, kind="margin")
    np.testing.assert_allclose(margin, np.abs(logits[0, 0]))


def test_what_is_a_probability_already_is_the_confidence():
    """Softmax of probabilities gave a certain pixel of 19 classes 0.13."""
    geometry = Geometry.fit(Size(1, 3), Size(1, 3), "stretch")
    card = a_card(3, probabilities=True)
    shares = np.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], np.float32)
    found = reference.confidence(shares.T.reshape(1, 3, 1, 3), card, geometry)
    np.testing.assert_allclose(found, [[1.0, 0.5, 0.8]], rtol=1e-6)
    scores = (255.0 * shares).T.reshape(1, 3, 1, 3)  # as bytes
    np.testing.assert_allclose(reference.confidence(scores, card, geometry), found, rtol=1e-6)
    card = a_card(2, activation="sigmoid", probabilities=True)
    one = np.array([0.5, -0.4, 0.2], np.float32).reshape(1, 1, 1, 3)  # a class's share less a half
    found = reference.confidence(one, card, geometry)
    np.testing.assert_allclose(found, [[1.0, 0.9, 0.7]], rtol=2e-6)


def test_nan_never_wins():
    logits = np.array([[np.nan, 1.0], [0.5, np.nan], [np.nan, np.nan]], np.float32)
    card = a_card(3)
    geometry = Geometry.fit(Size(1, 2), Size(1, 2), "stretch")
    assert reference.labels(logits.reshape(1, 3, 1, 2), card, geometry).tolist() == [[1, 0]]


def test_label_heads_are_looked_up():
    card = a_card(3, head="labels")
    geometry = Geometry.fit(Size(2, 4), Size(4, 8), "stretch")
    grid = np.array([[0, 1], [2, 300]])
    expected = [[0, 0, 1, 1], [2, 2, 255, 255]]
    for shape in ((1, 2, 2), (1, 1, 2, 2)):
        ours = reference.labels(grid.reshape(shape), card, geometry)
        assert ours.dtype == np.uint8
        assert ours.tolist() == expected
    assert reference.class_pixels(ours, 3).tolist() == [2, 2, 2]


def test_argmax_grid_reads_both_layouts():
    logits = np.random.default_rng(0).normal(size=(1, 3, 4, 5))
    expected = logits[0].argmax(0)
    assert np.array_equal(reference.argmax_grid(logits, a_card(3)), expected)
    last = a_card(3, logits_layout="nhwc")
    assert np.array_equal(reference.argmax_grid(logits.transpose(0, 2, 3, 1), last), expected)
    with pytest.raises(ModelError, match="do not fit"):
        reference.argmax_grid(logits, last)


def test_overlay_rounds_and_leaves_unknown_labels():
    image = np.full((1, 3, 3), 11, np.uint8)
    labels = np.array([[0, 1, 255]], np.uint8)
    painted = reference.overlay(image, labels, [(0, 0, 0), (255, 100, 0)], [0.5, 1.0])
    assert painted.tolist() == [[[6, 6, 6], [255, 100, 0], [11, 11, 11]]]
