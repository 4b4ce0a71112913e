"""Ranges from histograms, against the plain definitions on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segedge.precision.int8.calibrate import merge
from segedge.precision.int8.ranges import (
    BINS,
    LEVELS,
    METHODS,
    MagnitudeHistogram,
    quantized,
    threshold,
    weight_scales,
)

Array = np.ndarray


def histogram(values: Array) -> MagnitudeHistogram:
    made = MagnitudeHistogram(float(np.abs(values).max()))
    made.add(values)
    return made


def heavy_tails(count: int = 20000) -> Array:
    return np.random.default_rng(3).laplace(0, 1, count).astype(np.float32)


def step_error(values: Array, limit: float) -> float:
    """Mean squared error of symmetric int8 with this range: the definition."""
    scale = limit / LEVELS
    return float(np.mean((np.clip(np.rint(values / scale), -LEVELS, LEVELS) * scale - values) ** 2))


def divergence(values: Array, limit: float) -> float:
    """KL of the clipped distribution and its 128 levels, bin by bin in plain loops."""
    own = histogram(values)
    end = round(limit / own.absmax * BINS)
    p = own.counts[:end].astype(float)
    q = np.zeros(end)
    for level in range(128):
        inside = [i for i in range(end) if i * 128 // end == level]
        filled = [i for i in inside if p[i] > 0]
        for i in filled:
            q[i] = sum(p[j] for j in inside) / len(filled)
    p[-1] += own.counts[end:].sum()
    p, q = p / p.sum(), q / q.sum()
    terms = (a * np.log(a / max(b, 1e-12)) for a, b in zip(p, q, strict=True) if a > 0)
    return float(sum(terms))


def test_zeros_are_not_counted_and_all_others_are() -> None:
    values = np.array([0, 0, 0.5, -1, 1, -0.25], np.float32)
    own = histogram(values)
    assert own.counts.sum() == 4
    assert own.counts[-1] == 2
    assert own.counts[BINS // 2] == 1


def test_values_beyond_the_range_go_to_the_last_bin() -> None:
    own = MagnitudeHistogram(1.0)
    own.add(np.array([7, -9], np.float32))
    assert own.counts[-1] == 2


def test_minmax_is_the_largest_magnitude() -> None:
    assert threshold(histogram(np.array([0.5, -3], np.float32)), "minmax") == 3


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_percentile_is_numpys_up_to_a_bin(percentile: float) -> None:
    values = heavy_tails()
    found = threshold(histogram(values), "percentile", percentile=percentile)
    true = np.percentile(np.abs(values), percentile, method="inverted_cdf")
    assert abs(found - true) <= 1.01 * np.abs(values).max() / BINS


def test_mse_is_the_best_of_all_ranges() -> None:
    values = np.random.default_rng(1).normal(0, 1, 200_000).astype(np.float32)
    values[0] = 40  # one outlier that is not worth coarse steps
    found = threshold(histogram(values), "mse")
    largest = float(np.abs(values).max())
    best = min(step_error(values, limit) for limit in np.linspace(0.02, 1, 99) * largest)
    assert step_error(values, found) <= 1.02 * best
    assert found < 0.9 * largest


def test_entropy_is_the_least_divergence() -> None:
    values = heavy_tails(4000)
    own = histogram(values)
    found = divergence(values, threshold(own, "entropy"))
    others = [divergence(values, end / BINS * own.absmax) for end in range(128, BINS + 1, 240)]
    assert found <= min(others) + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_no_method_leaves_the_measured_range(method: str) -> None:
    for values in (heavy_tails(100), np.array([2.0], np.float32), np.full(9, -1, np.float32)):
        found = threshold(histogram(values), method)  # type: ignore[arg-type]
        assert 0 < found <= np.abs(values).max() * (1 + 1e-6)


def test_merged_histograms_count_over_the_largest_range() -> None:
    small, large = np.full(5, 0.5, np.float32), np.linspace(-2, 2, 1001).astype(np.float32)
    merged = merge([histogram(small), histogram(large)])
    both = histogram(np.concatenate([large, small]))
    assert merged.absmax == 2
    assert merged.counts.sum() == both.counts.sum()
    assert abs(threshold(merged, "percentile", percentile=60) - 1.19) < 0.02


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (3, 2, 2), elements=st.floats(-100, 100, width=32)))
def test_weights_are_off_by_half_a_step_at_most(weights: Array) -> None:
    for axis in range(3):
        scales = weight_scales(weights, axis)
        values = quantized(weights, scales, axis)
        shape = [1, 1, 1]
        shape[axis] = -1
        steps = scales.reshape(shape)
        assert values.min() >= -LEVELS
        assert np.all(np.abs(values * steps - weights) <= 0.5001 * steps)


def test_a_channel_of_zeros_stays_zero() -> None:
    weights = np.zeros((2, 3), np.float32)
    weights[1] = 5
    scales = weight_scales(weights, 0)
    assert scales[0] == 1
    assert quantized(weights, scales, 0).tolist() == [[0, 0, 0], [LEVELS] * 3]


def test_a_channel_of_next_to_nothing_counts_as_zero() -> None:
    """A scale of zero, or one without full precision, would say anything."""
    weights = np.full((1, 2), 1e-40, np.float32)
    scales = weight_scales(weights, 0)
    assert scales[0] == 1
    assert not quantized(weights, scales, 0).any()
