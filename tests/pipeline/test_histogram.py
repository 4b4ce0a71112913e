"""Percentiles in constant memory, against NumPy on all values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segedge.pipeline.histogram import Histogram


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(
    values=st.lists(st.floats(2e-3, 9e5), min_size=1, max_size=200), percent=st.floats(0.0, 100.0)
)
def test_percentiles_are_within_half_a_percent(values: list[float], percent: float) -> None:
    rank = max(1, math.ceil(len(values) * percent / 100))
    exact = sorted(values)[rank - 1]
    assert filled(values).percentile(percent) == pytest.approx(exact, rel=0.00501)


@given(values=st.lists(st.floats(0.0, 1e9), min_size=1, max_size=50))
def test_exact_parts_and_order(values: list[float]) -> None:
    summary = filled(values).summary()
    assert summary.count == len(values)
    assert summary.mean_ms == pytest.approx(sum(values) / len(values))
    assert summary.max_ms == max(values)
    assert summary.p50_ms <= summary.p95_ms <= summary.p99_ms <= summary.max_ms


def test_a_long_run_stays_small() -> None:
    values = np.random.default_rng(0).lognormal(2.0, 0.5, 100_000)
    histogram = filled(values.tolist())
    assert len(histogram._bins) < 1000
    for percent in (50, 95, 99):
        exact = np.percentile(values, percent)
        assert histogram.percentile(percent) == pytest.approx(exact, rel=0.01)


def test_empty() -> None:
    with pytest.raises(ValueError, match="of 0 values"):
        Histogram().percentile(50)
    with pytest.raises(ValueError, match="percentile 101"):
        filled([1.0]).percentile(101)
