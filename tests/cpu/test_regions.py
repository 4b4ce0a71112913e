"""Cleaning and regions against the slow reference, SciPy and OpenCV."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu.cases import a_card
from segedge.card.geometry import Geometry, Size
from segedge.cpu.overlay import Blend
from segedge.cpu.regions.clean import RegionFinder, clean
from segedge.cpu.regions.components import compress_counts, find_regions
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.options.cleaning import Cleaning
from segedge.reference import frame as reference
from segedge.reference import regions as slow
from tests.region_cases import NAMES, cleanings, maps

WORKERS = Workers(2)


@settings(deadline=None, max_examples=300)
@given(maps(), cleanings)
def test_cleaning_equals_the_reference(labels: np.ndarray, cleaning: Cleaning):
    labels = labels.astype(np.uint8)
    expected = slow.clean(
        labels, cleaning.areas(NAMES), connectivity=cleaning.connectivity,
        majority_size=cleaning.majority, fill_holes=cleaning.fill_holes,
    )  # fmt: skip
    np.testing.assert_array_equal(clean(labels, cleaning, NAMES), expected)


@settings(deadline=None, max_examples=60)
@given(maps(), st.sampled_from((4, 8)), st.sampled_from((3, 20)))
def test_afterwards_no_region_is_small_and_cleaning_again_changes_nothing(
    labels: np.ndarray, connectivity: int, least: int
):
    labels = np.minimum(labels, 4).astype(np.uint8)
    cleaning = Cleaning(least, connectivity=connectivity)
    once = clean(labels, cleaning, NAMES)
    before = find_regions(labels, NAMES, connectivity=connectivity, min_area=least)
    if before:
        left = find_regions(once, NAMES, connectivity=connectivity)
        assert min(region.area for region in left) >= least
    else:
        np.testing.assert_array_equal(once, labels)
    np.testing.assert_array_equal(clean(once, cleaning, NAMES), once)


@settings(deadline=None, max_examples=150)
@given(maps(), st.sampled_from((4, 8)))
def test_regions_equal_scipy_and_opencv(labels: np.ndarray, connectivity: int):
    ndimage = pytest.importorskip("scipy.ndimage")
    structure = np.ones((3, 3)) if connectivity == 8 else None
    found = find_regions(labels, NAMES, connectivity=connectivity)
    for label in range(5):
        mask = (labels == label).astype(np.uint8)
        _, count = ndimage.label(mask, structure)
        own = [region for region in found if region.label == label]
        assert len(own) == count
        _, _, stats, centroids = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
        expected = sorted(
            (*map(int, row), round(x + 0.5, 6), round(y + 0.5, 6))
            for row, (x, y) in zip(stats[1:], centroids[1:], strict=True)
        )
        assert expected == sorted(
            (*r.box, r.area, round(r.centroid[0], 6), round(r.centroid[1], 6)) for r in own
        )


@settings(deadline=None, max_examples=100)
@given(maps(), st.sampled_from((4, 8)))
def test_polygons_and_run_lengths_give_the_pixels_back(labels: np.ndarray, connectivity: int):
    covered = np.full(labels.shape, 99)
    for region in find_regions(labels, NAMES, connectivity=connectivity):
        inside = np.zeros(labels.shape, bool)
        for polygon in region.polygons:
            assert _area(polygon[0]) > 0, "the outer ring is clockwise"
            assert all(_area(hole) < 0 for hole in polygon[1:])
            inside ^= _filled(polygon, labels.shape)
        assert region.area == sum(_area(ring) for polygon in region.polygons for ring in polygon)
        counts = region.rle_counts
        assert _uncompressed(region.rle["counts"]) == counts
        flat = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
        np.testing.assert_array_equal(flat.reshape(labels.shape, order="F"), inside)
        assert all(count > 0 for count in counts[1:])
        covered[inside] = region.label
    known = labels < 5
    np.testing.assert_array_equal(covered[known], labels[known])


def _area(ring: list[tuple[int, int]]) -> int:
    """Shoelace formula; positive for clockwise in the picture."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) // 2


def _filled(rings: tuple[list[tuple[int, int]], ...], shape: tuple[int, ...]) -> np.ndarray:
    """Even-odd: every upright side flips what lies right of it."""
    inside = np.zeros(shape, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in pairwise(ring):
            if x0 == x1:
                inside[min(y0, y1) : max(y0, y1), x0:] ^= True
    return inside


def _uncompressed(text: str) -> list[int]:
    """The definition in COCO's maskApi.c, read backwards."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[at]) - 48
            value |= (bits & 0x1F) << shift
            more, at, shift = bool(bits & 0x20), at + 1, shift + 5
            if not more and bits & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def test_compressed_counts_of_a_known_mask():
    assert compress_counts([6, 1, 40, 4, 5, 4, 5, 4, 21]) == "61X13mN000`0"


@pytest.mark.parametrize("classes", [5, 300])
def test_the_tail_writes_paints_and_counts_the_cleaned_map(classes: int):
    size, grid = Size(61, 83), Size(13, 17)
    card = a_card(classes)
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(1, classes, 13, 17)).astype(np.float32)
    logits[:, min(classes, 5) :] -= 50
    geometry, cleaning = Geometry.fit(size, size, "stretch"), Cleaning(60, majority=3)
    frame = rng.integers(0, 256, (61, 83, 3), np.uint8)
    raw, labels = (np.empty((61, 83), np.uint8 if classes == 5 else np.uint16) for _ in range(2))
    overlay, counts = np.empty_like(frame), np.zeros(classes, np.int64)
    Tail(card, geometry, grid, workers=WORKERS).run(logits, labels=raw)
    tail = Tail(card, geometry, grid, workers=WORKERS, cleaning=cleaning)
    for _ in range(2):
        tail.run(
            logits, labels=labels, overlay=overlay, frame=frame,
            blend=Blend.of(card.palette_rgb, 0.5), class_pixels=counts,
        )  # fmt: skip
        areas = cleaning.areas(card.classes)
        expected = slow.clean(raw, areas, majority_size=3)
        assert not np.array_equal(expected, raw)
        np.testing.assert_array_equal(labels, expected)
        painted = reference.overlay(frame, expected, [c[::-1] for c in card.palette_rgb], 0.5)
        assert np.abs(overlay.astype(int) - painted).max() <= 1
        np.testing.assert_array_equal(counts, reference.class_pixels(expected, classes))


def test_bands_meet():
    """Regions run through many bands of rows, in threads."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 3, (40, 30)), np.ones((7, 9))).astype(np.uint8)
    finder = RegionFinder(Size(*labels.shape), connectivity=8, workers=Workers(3))
    expected = len(np.unique(slow.regions(labels, connectivity=8)))
    assert finder.find(labels) == expected
