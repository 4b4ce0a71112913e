"""The kernels of cleaning against the slow reference: on the CPU through the shim, and on a GPU."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from shim.cases import EXAMPLES
from shim.gpu import GpuLauncher, at
from shim.launcher import ShimLauncher

from segedge import reference_regions as slow
from segedge.cleaning import Cleaning
from segedge.cuda.regions import Clean
from segedge.geometry import Size
from tests.region_cases import NAMES, cleanings, maps

Launch = ShimLauncher | GpuLauncher


def cleaned(labels: np.ndarray, cleaning: Cleaning, launcher: Launch) -> np.ndarray:
    """The map behind the kernels; nothing may be read before it is written: all is nonsense."""
    clean = Clean(cleaning, NAMES, Size(*labels.shape), dtype=labels.dtype)
    given_map, out = labels.copy(), np.full_like(labels, 77)
    scratch = np.full(clean.scratch_bytes, 0xA5, np.uint8)
    wanted = clean.wanted.copy()
    clean.launch(launcher, at(given_map), at(out), at(scratch), wanted=at(wanted))
    np.testing.assert_array_equal(given_map, labels)
    return out


def expected(labels: np.ndarray, cleaning: Cleaning) -> np.ndarray:
    return slow.clean(
        labels, cleaning.areas(NAMES), connectivity=cleaning.connectivity,
        majority_size=cleaning.majority, fill_holes=cleaning.fill_holes,
    )  # fmt: skip


def test_cleaning_equals_the_reference(launcher: Launch):
    @settings(deadline=None, max_examples=EXAMPLES * 2)
    @given(maps(), cleanings)
    def check(labels: np.ndarray, cleaning: Cleaning) -> None:
        if not cleaning.is_off:
            np.testing.assert_array_equal(
                cleaned(labels, cleaning, launcher), expected(labels, cleaning)
            )

    check()


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
