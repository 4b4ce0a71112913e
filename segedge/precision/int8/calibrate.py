"""Two passes over the calibration images: first how large values get, then how they lie.

Why not ONNX Runtime's own calibrators? They (of 1.32) take symmetric ranges for entropy and
percentile only through options of the quantizer that also choose where Q/DQ nodes go, share no
scale over the inputs of a sum, have no mean squared error, and keep every value of every image in
memory for histograms. Here ONNX Runtime runs the network, and one histogram a tensor serves all
methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import ModelError
from segedge.graph.kit import session_of, with_outputs
from segedge.graph.typed import TypedGraph, maker
from segedge.machine.onnx_session import Session
from segedge.precision.int8.ranges import BINS, MagnitudeHistogram, Method, threshold

Tensors = Callable[[], Iterable[NDArray[np.float32]]]
Tick = Callable[[], None]


def measure(
    graph: TypedGraph, names: Sequence[str], tensors: Tensors, *, tick: Tick = lambda: None
) -> dict[str, MagnitudeHistogram]:
    """Histogram of the magnitudes of each named value of the float network.

    ``tensors`` gives the inputs anew at each of two passes; ``tick`` is called after each image.
    """
    session = session_of(with_outputs(graph.model, names))
    absmax = dict.fromkeys(names, 0.0)
    for values in _values(session, names, tensors(), tick):
        for name, array in values.items():
            absmax[name] = max(absmax[name], float(np.abs(array).max(initial=0.0)))
            if not np.isfinite(absmax[name]) or np.isnan(array).any():
                raise _not_finite(graph, name)
    histograms = {name: MagnitudeHistogram(largest) for name, largest in absmax.items()}
    for values in _values(session, names, tensors(), tick):
        for name, array in values.items():
            histograms[name].add(array)
    return histograms


@dataclass(frozen=True)
class Channels:
    """What the calibration images showed of each channel of a value, N x C x ..."""

    absmax: NDArray[np.float32]
    """Largest magnitude."""
    mean: NDArray[np.float32]
    """Mean over positions and images."""


def measure_channels(
    graph: TypedGraph, names: Sequence[str], tensors: Iterable[NDArray[np.float32]]
) -> dict[str, Channels]:
    """Extremes and means of the channels (second axis) of each named value of the float network."""
    session = session_of(with_outputs(graph.model, names))
    absmax: dict[str, Any] = dict.fromkeys(names, 0.0)
    total: dict[str, Any] = dict.fromkeys(names, 0.0)
    count = 0
    for values in _values(session, names, tensors, lambda: None):
        count += 1
        for name, array in values.items():
            axes = (0, *range(2, array.ndim))
            absmax[name] = np.maximum(absmax[name], np.abs(array).max(axis=axes))
            total[name] = total[name] + array.mean(axis=axes, dtype=np.float64)
    return {
        name: Channels(
            np.asarray(absmax[name], np.float32), np.asarray(total[name] / count, np.float32)
        )
        for name in names
    }


def thresholds(
    groups: Sequence[tuple[str, ...]],
    histograms: Mapping[str, MagnitudeHistogram],
    method: Method,
    *,
    percentile: float = 99.99,
    known: dict[tuple[Method, tuple[str, ...]], float] | None = None,
) -> dict[str, float]:
    """The range of each value; one for all of a group. A value that is always 0 gets 1.

    ``known``: what was found before of these histograms by this percentile; it grows.
    """
    known, found = {} if known is None else known, dict[str, float]()
    for group in groups:
        key = (method, group)
        if key not in known:
            merged = merge([histograms[name] for name in group])
            known[key] = threshold(merged, method, percentile=percentile) or 1.0
        found |= dict.fromkeys(group, known[key])
    return found


def merge(histograms: Sequence[MagnitudeHistogram]) -> MagnitudeHistogram:
    """One histogram over the largest range; each bin's values count at its centre."""
    if len(histograms) == 1:
        return histograms[0]
    merged = MagnitudeHistogram(max(h.absmax for h in histograms))
    for histogram in histograms:
        if histogram.absmax > 0:
            bins = (histogram.centres() * (BINS / merged.absmax)).astype(np.int64)
            np.add.at(merged.counts, np.minimum(bins, BINS - 1), histogram.counts)
    return merged


def _values(
    session: Session, names: Sequence[str], tensors: Iterable[NDArray[np.float32]], tick: Tick
) -> Iterable[dict[str, NDArray[np.float32]]]:
    for tensor in tensors:
        results = dict(zip(session.outputs, session.run(tensor), strict=True))
        results[session.input] = tensor
        yield {name: results[name] for name in names}
        tick()


def _not_finite(graph: TypedGraph, name: str) -> ModelError:
    return ModelError(
        "the network gives inf or NaN on the calibration images",
        facts={"first in": maker(graph.values[name])},
        fix="check the weights, and how the images are preprocessed",
    )
