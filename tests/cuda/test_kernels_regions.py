"""The kernels of cleaning against the slow reference: on the CPU through the shim, and on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy
from shim.cases import EXAMPLES
from shim.gpu import GpuLauncher, at
from shim.launcher import ShimLauncher

from segedge.card.geometry import Size
from segedge.cuda.regions import Clean
from segedge.options.cleaning import Cleaning
from segedge.reference import regions as slow
from tests.region_cases import NAMES, cleanings, maps

Launch = ShimLauncher | GpuLauncher


def cleaned(labels: np.ndarray, cleaning: Cleaning, launcher: Launch) -> np.ndarray:
    """The map behind the kernels; nothing may be read before it is written: all is nonsense."""
    clean = Clean(cleaning, NAMES, Size(*labels.shape), dtype=labels.dtype)
    given_map, out = labels.copy(), np.full_like(labels, 77)
    scratch = np.full(clean.scratch_bytes, 0xA5, np.uint8)
    wanted = clean.wanted.copy()
    clean.run(launcher, at(given_map), at(out), at(scratch), wanted=at(wanted))
    np.testing.assert_array_equal(given_map, labels)
    return out


def expected(labels: np.ndarray, cleaning: Cleaning) -> np.ndarray:
    return slow.clean(
        labels, cleaning.areas(NAMES), connectivity=cleaning.connectivity,
        majority_size=cleaning.majority, fill_holes=cleaning.fill_holes,
    )  # fmt: skip


def cleans_as_the_reference(launcher: Launch, made: SearchStrategy[np.ndarray], times: int) -> None:
    @settings(deadline=None, max_examples=times)
    @given(made, cleanings)
    def check(labels: np.ndarray, cleaning: Cleaning) -> None:
        if not cleaning.is_off:
            np.testing.assert_array_equal(
                cleaned(labels, cleaning, launcher), expected(labels, cleaning)
            )

    check()


def test_cleaning_equals_the_reference(launcher: Launch):
    cleans_as_the_reference(launcher, maps(), EXAMPLES * 2)


def roots(labels: np.ndarray, connectivity: int, launcher: Launch) -> np.ndarray:
    """The first pixel, row by row, of each pixel's region."""
    clean = Clean(Cleaning(2, connectivity=connectivity), NAMES, Size(*labels.shape))
    scratch, out = np.full(clean.scratch_bytes, 0xA5, np.uint8), np.empty_like(labels)
    clean.run(launcher, at(labels), at(out), at(scratch), wanted=at(clean.wanted))
    parents = scratch[clean.map_bytes :][: 4 * labels.size].view(np.int32)
    return parents.reshape(labels.shape)


def expected_roots(labels: np.ndarray, connectivity: int) -> np.ndarray:
    ndimage = pytest.importorskip("scipy.ndimage")
    structure = np.ones((3, 3)) if connectivity == 8 else None
    found = np.zeros(labels.shape, np.int64)
    for label in np.unique(labels):
        parts, count = ndimage.label(labels == label, structure)
        first = np.full(count + 1, labels.size)
        np.minimum.at(first, parts.ravel(), np.arange(labels.size))
        found = np.where(parts > 0, first[parts], found)
    return found


def snake(height: int, width: int, turn: bool) -> np.ndarray:
    """One long line there and back, which crosses every seam many times."""
    labels = np.zeros((height, width), np.uint8)
    labels[::2] = 1
    labels[1::4, -1] = labels[3::4, 0] = 1
    return np.ascontiguousarray(labels.T) if turn else labels


def diagonal(height: int, width: int, turn: bool) -> np.ndarray:
    """Lines that only corners hold together."""
    y, x = np.mgrid[:height, :width]
    return (((y - x if turn else y + x) % 3) == 0).astype(np.uint8)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_regions_that_cross_tiles_are_one(launcher: Launch, connectivity: int):
    """Tiles are 32 wide and high: sizes just below, at and above multiples of that."""
    rng = np.random.default_rng(connectivity)
    made = [
        draw(height, width, turn)
        for draw in (snake, diagonal)
        for height, width in ((31, 33), (32, 64), (33, 32), (65, 97))
        for turn in (False, True)
    ]
    for height, width, block in ((64, 64, 1), (33, 95, 2), (97, 65, 7), (1, 130, 1), (130, 1, 1)):
        small = rng.integers(0, 3, (height // block + 1, width // block + 1))
        noise = np.kron(small, np.ones((block, block), int))[:height, :width]
        made.append(np.ascontiguousarray(noise.astype(np.uint8)))
    for labels in made:
        np.testing.assert_array_equal(
            roots(labels, connectivity, launcher), expected_roots(labels, connectivity)
        )


def test_cleaning_across_tiles_equals_the_reference(launcher: Launch):
    cleans_as_the_reference(launcher, maps(most=50), EXAMPLES // 2)


def test_the_widest_window(launcher: Launch):
    labels = np.random.default_rng(0).integers(0, 5, (40, 50)).astype(np.uint8)
    cleaning = Cleaning(3, majority=31, fill_holes=4)
    found = cleaned(labels, cleaning, launcher)
    np.testing.assert_array_equal(found, expected(labels, cleaning))


def test_rings_within_rings_take_as_many_rounds(launcher: Launch):
    """Each ring is too small and touches the settled frame only through the one around it."""
    side = 41
    y, x = np.mgrid[:side, :side]
    ring = np.minimum(np.minimum(y, x), np.minimum(side - 1 - y, side - 1 - x))
    labels = (ring % 4).astype(np.uint8)
    cleaning = Cleaning(int((ring == 0).sum()))
    found = cleaned(labels, cleaning, launcher)
    np.testing.assert_array_equal(found, expected(labels, cleaning))
    assert (found == 0).all()


def test_one_label_and_one_pixel(launcher: Launch):
    for shape in ((1, 1), (1, 300), (300, 1), (40, 40)):
        labels = np.full(shape, 3, np.uint8)
        found = cleaned(labels, Cleaning(10**6, fill_holes=10**6), launcher)
        np.testing.assert_array_equal(found, labels)
