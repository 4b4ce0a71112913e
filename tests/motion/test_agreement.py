"""Labels and leads at the points of a grid, beside a slow way."""

from __future__ import annotations

import numpy as np
import pytest

from segedge.motion.agreement import CLEAR_LOGITS, agreement


@pytest.mark.parametrize("classes", [2, 3, 11])
def test_clear_points_are_those_with_a_lead(classes: int) -> None:
    """In one class everywhere, so that no point lies at a border."""
    random = np.random.default_rng(classes)
    network = random.normal(size=(classes, 9, 13)).astype(np.float32)
    network[0] = network[1:].max(axis=0) + random.uniform(0.01, 2.0, (9, 13))
    carried = random.normal(size=network.shape).astype(np.float32)
    ordered = np.sort(network, axis=0)
    clear = ordered[-1] - ordered[-2] >= CLEAR_LOGITS
    same = np.argmax(carried, axis=0) == 0
    found = agreement(carried, network)
    assert found.everywhere == pytest.approx(same.mean())
    assert found.clear == pytest.approx(same[clear].mean())
