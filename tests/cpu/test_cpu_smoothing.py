"""The CPU's smoother against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.cpu.smoothing import Smooth
from segedge.cpu.workers import Workers
from segedge.reference import smoothing as reference
from tests.smooth_cases import CONFIGS, Sequence, assert_close, figures, sequences


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: "-".join(map(str, c.values())))
def test_sequences_equal_the_reference(config: dict[str, Any]):
    workers = Workers(2)

    @settings(deadline=None, max_examples=25)
    @given(sequences(**config))
    def check(case: Sequence) -> None:
        smoother = Smooth(
            case.card, case.grid, case.network, smoothing=case.smoothing, workers=workers
        )
        check_against_reference(case, smoother)

    check()
    workers.close()


def check_against_reference(case: Sequence, smoother: Smooth) -> None:
    mine, theirs, counted = smoother.new_past(), None, np.zeros(5, int)
    for logits, tensor, step in case.frames:
        expected, theirs, counts = reference.smooth(
            logits, tensor, case.card, theirs, smoothing=case.smoothing, step=step
        )
        found = logits.copy()
        smoother.run(found, tensor, past=mine, step=step)
        assert_close(found, expected)
        counted += figures(counts)
    if case.smoothing.flicker:
        flicker = figures(mine.flicker())
        # A change at the threshold, or a tie, falls either way.
        assert np.abs(flicker - counted).max() <= 1 + 0.02 * counted.max()


@given(st.integers(1, 300), st.integers(1, 2000))
def test_taps_lie_inside_and_are_spread_evenly(points: int, pixels: int):
    taps = reference.taps(points, pixels)
    assert taps.min() >= 0
    assert taps.max() < pixels
    assert np.all(np.diff(taps.ravel()) >= 0)
    assert np.abs(taps + taps[::-1, ::-1] - (pixels - 1)).max() <= 1
