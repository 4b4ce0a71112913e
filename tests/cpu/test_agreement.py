"""Carried labels against the network's, beside a slow way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.cpu.agreement import agreement
from segedge.motion.agreement import CLEAR_LOGITS


def slowly(carried: np.ndarray, network: np.ndarray) -> tuple[int, int, int]:
    """Points where both say the same; clear ones away from borders; both."""
    if len(network) == 1:
        said, labels = (carried[0] > 0).astype(int), (network[0] > 0).astype(int)
        lead = np.abs(network[0])
    else:
        said, labels = carried.argmax(axis=0), network.argmax(axis=0)
        ordered = np.sort(network, axis=0)
        lead = ordered[-1] - ordered[-2]
    clear = lead >= CLEAR_LOGITS
    for y, x in np.ndindex(labels.shape):
        around = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        clear[y, x] &= (around == labels[y, x]).all()
    same = said == labels
    return int(same.sum()), int(clear.sum()), int((clear & same).sum())


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from((1, 2, 3, 11, 40)), st.integers(1, 12), st.integers(1, 40),
    st.integers(0, 2**32), st.sampled_from((np.float32, np.float16)), st.booleans(),
)  # fmt: skip
def test_shares_are_those_of_the_slow_way(classes, height, width, seed, dtype, transposed) -> None:
    random = np.random.default_rng(seed)
    patches = np.repeat(np.repeat(random.normal(size=(classes, 4, 10)), 3, axis=1), 4, axis=2)
    network = (4.0 * patches[:, :height, :width]).astype(dtype)
    network += random.normal(size=network.shape).astype(dtype) * dtype(0.3)
    carried = network + random.normal(size=network.shape).astype(dtype)
    if transposed:  # NHWC, as its planes are seen
        network = np.ascontiguousarray(network.transpose(1, 2, 0)).transpose(2, 0, 1)
    found = agreement(carried, network)
    same, clear, both = slowly(carried.astype(np.float32), network.astype(np.float32))
    assert found.everywhere == pytest.approx(same / (height * width))
    assert found.clear == (pytest.approx(both / clear) if clear else None)


def test_what_is_not_a_number_never_wins() -> None:
    network = np.zeros((3, 2, 2), np.float32)
    network[1] = 5.0
    network[2] = np.nan
    assert agreement(network, network).everywhere == 1.0
    other = network.copy()
    other[1] = np.nan
    assert agreement(other, network).everywhere == 0.0
