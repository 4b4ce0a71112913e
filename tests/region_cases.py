"""Random label maps and cleanings for the tests of both twins."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from segedge.options.cleaning import Cleaning

NAMES = tuple(f"c{i}" for i in range(5))


@st.composite
def maps(draw: st.DrawFn, most: int = 24) -> np.ndarray:
    """Noise, blocks with specks, sometimes with labels that name no class."""
    height, width = draw(st.integers(1, 2 * most)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 5))
    block = draw(st.sampled_from((1, 1, 3, 7)))
    small = rng.integers(0, count, (height // block + 1, width // block + 1))
    labels = np.kron(small, np.ones((block, block), int))[:height, :width]
    specks = rng.random(labels.shape) < draw(st.sampled_from((0.0, 0.1, 0.4)))
    labels[specks] = rng.integers(0, count, specks.sum())
    labels[rng.random(labels.shape) < draw(st.sampled_from((0.0, 0.0, 0.1)))] = 255
    return np.ascontiguousarray(labels.astype(draw(st.sampled_from((np.uint8, np.uint16)))))


cleanings = st.builds(
    Cleaning,
    min_region=st.one_of(
        st.sampled_from((0, 2, 5, 20, 200)),
        st.dictionaries(st.sampled_from(NAMES), st.sampled_from((2, 8, 30))),
    ),
    connectivity=st.sampled_from((4, 8)),
    majority=st.sampled_from((0, 0, 1, 3, 5)),
    fill_holes=st.sampled_from((0, 0, 4, 25)),
)
