"""The fused preprocessing against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from cpu.cases import InputCase, a_card, input_cases
from segedge.card.geometry import Geometry, Size
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.workers import Workers
from segedge.errors import UsageError
from segedge.reference import frame as reference

WORKERS = Workers(2)


@settings(deadline=None, max_examples=300)
@given(input_cases())
def test_equals_the_reference(case: InputCase):
    preprocessor = Preprocess(case.card, case.geometry, workers=WORKERS, dtype=case.dtype)
    out = np.full(preprocessor.shape, np.nan, case.dtype)
    preprocessor.run(case.frame, out)
    expected = reference.preprocess(case.frame, case.card, case.geometry)
    tolerance = 2e-5 if case.dtype == "f4" else 2e-3
    np.testing.assert_allclose(out, expected, atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("width", [16, 17, 40, 96])
def test_exact_halving_takes_its_own_path(width: int, color: str):
    geometry = Geometry.fit(Size(12, 2 * width), Size(6, width), "stretch")
    card = a_card(color=color)
    frame = np.random.default_rng(width).integers(0, 256, (12, 2 * width, 3), np.uint8)
    preprocessor = Preprocess(card, geometry, workers=WORKERS)
    assert preprocessor._halve
    out = np.empty(preprocessor.shape, np.float32)
    preprocessor.run(frame, out)
    np.testing.assert_allclose(out, reference.preprocess(frame, card, geometry), atol=1e-5)


@pytest.mark.parametrize("resize", ["pillow-bicubic", "bilinear", "area"])
def test_a_window_of_one_pixel_lies_among_wider_ones(resize: str):
    """Enlarged threefold and cropped, the first column falls on a pixel: its window is short."""
    geometry = Geometry(Size(4, 15), Size(22, 36), top=5, left=-4, resized=Size(12, 45))
    frame = np.random.default_rng(0).integers(0, 256, (4, 15, 3), np.uint8)
    preprocessor = Preprocess(a_card(resize=resize), geometry, workers=WORKERS)
    out = np.empty(preprocessor.shape, np.float32)
    preprocessor.run(frame, out)
    expected = reference.preprocess(frame, a_card(resize=resize), geometry)
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_nothing_is_written_outside_the_tensor():
    geometry = Geometry.fit(Size(50, 46), Size(33, 41), "letterbox")
    frame = np.full((50, 46, 3), 200, np.uint8)
    preprocessor = Preprocess(a_card(), geometry, workers=WORKERS)
    guarded = np.full(3 * 33 * 41 + 64, 7.5, np.float32)
    preprocessor.run(frame, guarded[32:-32].reshape(preprocessor.shape))
    assert np.all(guarded[:32] == 7.5)
    assert np.all(guarded[-32:] == 7.5)
    assert not np.any(guarded[32:-32] == 7.5)


def test_arrays_that_do_not_fit_are_refused():
    geometry = Geometry.fit(Size(8, 8), Size(4, 4), "stretch")
    preprocessor = Preprocess(a_card(), geometry, workers=WORKERS)
    frame = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="network's input"):
        preprocessor.run(frame, np.zeros((1, 3, 4, 5), np.float32))
    with pytest.raises(UsageError, match="frame"):
        preprocessor.run(frame[:7], np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(UsageError, match="frame"):
        preprocessor.run(frame.astype(np.float32), np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(UsageError, match="float64"):
        Preprocess(a_card(), geometry, dtype="float64")
