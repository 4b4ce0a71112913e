"""From histograms of magnitudes to the range that 8 bits shall span.

All ranges are symmetric: a tensor is stored as ``clip(round(x / scale), -127, 127)`` with
``scale = threshold / 127`` and no zero point. A small threshold clips the largest values, a large
one makes the steps between all others coarse; the methods differ in how they weigh the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy", "mse")
BINS = 2048
"""Bins of a histogram, over 0..largest magnitude."""
LEVELS = 127
"""Largest magnitude of an int8 value that is used: -128 would have no counterpart."""
_ENTROPY_LEVELS = 128
_ENTROPY_STEP = 8
_MSE_CANDIDATES = 160


@dataclass
class MagnitudeHistogram:
    """How often which magnitude occurred in a tensor, or in tensors that share a range.

    Zeros are left out: they are exact at every scale, and behind a ReLU they are most values.
    """

    absmax: float
    """Largest magnitude: the upper edge of the last bin. Zero where there is nothing to count."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    """How many values a bin."""

    def add(self, values: NDArray[np.float32]) -> None:
        """Count further values; those above ``absmax`` go to the last bin."""
        if self.absmax <= 0:
            return
        size = np.abs(values.reshape(-1))
        size = size[size > 0]
        bins = np.minimum((size * np.float32(BINS / self.absmax)).astype(np.int32), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        return np.asarray((np.arange(BINS) + 0.5) * (self.absmax / BINS), np.float64)


def threshold(histogram: MagnitudeHistogram, method: Method, *, percentile: float = 99.99) -> float:
    """The largest magnitude that shall be represented, positive and at most ``absmax``.

    ``minmax``: the largest magnitude. ``percentile``: the smallest that covers this share (0..100)
    of the values that are not zero. ``entropy``: the one whose 128 levels keep most of the
    distribution (Kullback-Leibler divergence), as in S. Migacz, "8-bit inference with TensorRT",
    GTC 2017. ``mse``: the one with the smallest mean squared error.
    """
    if not histogram.counts.any():
        return histogram.absmax
    if method == "percentile":
        return _percentile(histogram, percentile)
    return _RULES[method](histogram)


def _percentile(histogram: MagnitudeHistogram, percentile: float) -> float:
    covered = np.cumsum(histogram.counts)
    wanted = percentile / 100 * covered[-1]
    last = int(np.searchsorted(covered, wanted))
    return min(last + 1, BINS) * histogram.absmax / BINS


def _entropy(histogram: MagnitudeHistogram) -> float:
    """The number of bins to keep at which the quantized distribution diverges least."""
    counts = histogram.counts.astype(np.float64)
    ends = range(_ENTROPY_LEVELS, BINS + 1, _ENTROPY_STEP)
    divergences = [_divergence(counts, end) for end in ends]
    return ends[int(np.argmin(divergences))] * histogram.absmax / BINS


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    """KL(P || Q) of the first ``end`` bins: P clips what is beyond, Q has 128 levels."""
    kept = counts[:end]
    clipped = kept.copy()
    clipped[-1] += counts[end:].sum()
    level = np.arange(end) * _ENTROPY_LEVELS // end
    present = kept > 0
    sums = np.bincount(level, weights=kept, minlength=_ENTROPY_LEVELS)
    sizes = np.bincount(level, weights=present, minlength=_ENTROPY_LEVELS)
    spread = np.where(present, (sums / np.maximum(sizes, 1))[level], 0.0)
    if not spread.any():
        return np.inf
    p, q = clipped / clipped.sum(), spread / spread.sum()
    q = np.maximum(q, 1e-12)
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / q[seen])))


def _mse(histogram: MagnitudeHistogram) -> float:
    """The candidate, from a hundredth to the whole of the range, with the least squared error."""
    centres, counts = histogram.centres(), histogram.counts
    used = counts > 0
    centres, counts = centres[used], counts[used]
    candidates = histogram.absmax * np.linspace(0.01, 1.0, _MSE_CANDIDATES)
    scales = (candidates / LEVELS)[:, None]
    steps = np.minimum(np.rint(centres / scales), LEVELS)
    errors = ((steps * scales - centres) ** 2 * counts).sum(axis=1)
    return float(candidates[int(np.argmin(errors))])


_RULES: dict[str, Callable[[MagnitudeHistogram], float]] = {
    "minmax": lambda histogram: histogram.absmax,
    "entropy": _entropy,
    "mse": _mse,
}


def weight_scales(
    weights: NDArray[np.float32], axis: int, *, levels: int = LEVELS
) -> NDArray[np.float32]:
    """One scale a channel: its largest magnitude becomes ``levels``; 1 where all are zero.

    So do those whose scale would be no normal float32: they would be divided by nearly nothing.
    """
    others = tuple(a for a in range(weights.ndim) if a != axis)
    scales = np.abs(weights).max(axis=others) / np.float32(levels)
    return np.where(scales >= np.finfo(np.float32).tiny, scales, 1.0).astype(np.float32)


def quantized(
    values: NDArray[np.float32], scales: NDArray[np.float32] | float, axis: int | None = None
) -> NDArray[np.int8]:
    """``clip(round(x / scale), -127, 127)``, ties to even, as ONNX's QuantizeLinear rounds."""
    if axis is not None:
        shape = [1] * values.ndim
        shape[axis] = -1
        scales = np.asarray(scales, np.float32).reshape(shape)
    steps = np.rint(values / np.asarray(scales, np.float32))
    return np.clip(steps, -LEVELS, LEVELS).astype(np.int8)
