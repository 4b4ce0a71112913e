"""Equalised channels: the same network in float, with less lost where 8 bits span all channels.

A tensor has one scale for all its channels, so a channel that stays small gets few of the levels.
Between a layer and the only one that reads it channel ``i`` may be divided by any ``s_i > 0`` and
multiplied again: behind a Relu, ``relu(x / s) = relu(x) / s``. The first layer's weights have a
scale a channel of their own and lose nothing; the second's pay where they mix channels. So

    s_i = sqrt(a_i / w_i)      where the second layer mixes channels
    s_i = a_i                  where it is depthwise: then all channels become equally large

``a_i`` is the channel's largest magnitude on the calibration images, ``w_i`` the largest weight
that reads it. The idea of rescaling is that of M. Nagel et al., "Data-free quantization through
weight equalization and bias correction", ICCV 2019, whose factors suit weights with one scale a
tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.graph.kit import Model, set_constant
from segedge.graph.typed import TypedGraph, is_weight
from segedge.precision.int8.place import Layer, group_of

_MOST = 256.0
"""Largest factor from the geometric mean: what float32 arithmetic does not notice."""


@dataclass(frozen=True)
class Pair:
    """A layer and the only one that reads what it gives."""

    first: Layer
    second: Layer

    @property
    def value(self) -> str:
        """The value between them."""
        return self.first.output


def find_pairs(graph: TypedGraph, layers: Sequence[Layer]) -> tuple[Pair, ...]:
    """The pairs whose channels may be rescaled, in the order of the graph.

    Layers that stay float for a reason may be the first of a pair.
    """
    sources = {layer.source: layer for layer in layers if not layer.reason}
    pairs = []
    for first in layers:
        second, value = sources.get(first.output), graph.values[first.output]
        if second is None or len(graph.readers[value]) != 1 or value.is_graph_output():
            continue
        weights = (*_weights(graph, first), second.weight)
        alone = all(_is_alone(graph, name) for name in weights)
        passes = _is_homogeneous(graph, first)
        if alone and passes and not _is_grouped_transpose(graph, first, second):
            pairs.append(Pair(first, second))
    return tuple(pairs)


def equalized(
    graph: TypedGraph, pairs: Sequence[Pair], absmax: Mapping[str, NDArray[np.float32]]
) -> TypedGraph:
    """The network with rescaled channels; in float it gives the same.

    ``absmax``: the largest magnitude of each channel of each pair's value.
    """
    arrays: dict[str, NDArray[Any]] = {}

    def array_of(name: str) -> NDArray[Any]:
        return arrays[name] if name in arrays else graph.values[name].const_value.numpy()

    for pair in pairs:
        group = group_of(graph.named[pair.second.name])
        reading = array_of(pair.second.weight)
        scales = factors(absmax[pair.value], reading, pair.second.op, group)
        for name in _weights(graph, pair.first):
            array = array_of(name)
            axis = pair.first.weight_axis if name == pair.first.weight else 0
            arrays[name] = array / _along(scales, axis, array.ndim)
        arrays[pair.second.weight] = reading * _of_inputs(scales, reading, pair.second.op, group)
    return TypedGraph(_with_weights(graph.model, arrays))


def factors(
    absmax: NDArray[np.float32], reading: NDArray[Any], op: str, group: int
) -> NDArray[np.float32]:
    """What each channel is divided by; 1 for those that are always 0 or that nothing reads.

    ``reading``: the weights of the layer that reads them.
    """
    weights = np.abs(reading.astype(np.float64))
    if op == "Conv":
        by_group = weights.reshape(group, weights.shape[0] // group, weights.shape[1], -1)
        largest = by_group.max(axis=(1, 3)).reshape(-1)
        mixes = weights.shape[1] > 1
    else:
        largest, mixes = weights.reshape(weights.shape[0], -1).max(axis=1), True
    live = (absmax > 0) & (largest > 0)
    found = np.ones(len(absmax))
    if not live.any():
        return found.astype(np.float32)
    sizes = absmax.astype(np.float64)[live]
    wanted = np.sqrt(sizes / largest[live]) if mixes else sizes
    logs = np.log(wanted)
    found[live] = np.exp(np.clip(logs - logs.mean(), -np.log(_MOST), np.log(_MOST)))
    return found.astype(np.float32)


def _weights(graph: TypedGraph, layer: Layer) -> tuple[str, ...]:
    """A layer's weights and its bias, where it has one."""
    bias = graph.named[layer.name].inputs[2:3]
    return (layer.weight, *(value.name for value in bias if value is not None))


def _is_alone(graph: TypedGraph, name: str) -> bool:
    """Whether a constant may be changed for the one node that reads it."""
    value = graph.values[name]
    return is_weight(value) and len(graph.readers[value]) == 1


def _is_homogeneous(graph: TypedGraph, layer: Layer) -> bool:
    """Whether what lies between a layer and its output is nothing or a Relu."""
    node = graph.values[layer.output].producer()
    return bool(node.name == layer.name or node.op_type == "Relu")


def _is_grouped_transpose(graph: TypedGraph, *layers: Layer) -> bool:
    return any(layer.op != "Conv" and group_of(graph.named[layer.name]) > 1 for layer in layers)


def _along(scales: NDArray[np.float32], axis: int, rank: int) -> NDArray[np.float32]:
    shape = [1] * rank
    shape[axis] = -1
    return scales.reshape(shape)


def _of_inputs(
    scales: NDArray[np.float32], weights: NDArray[Any], op: str, group: int
) -> NDArray[np.float32]:
    """The factor of each weight, by the channel that it reads; broadcastable to the weights."""
    if op != "Conv":
        return _along(scales, 0, weights.ndim)
    made, read = weights.shape[:2]
    factor = np.repeat(scales.reshape(group, read), made // group, axis=0)
    return factor.reshape(made, read, *([1] * (weights.ndim - 2)))


def _with_weights(model: Model, arrays: Mapping[str, NDArray[Any]]) -> Model:
    copy = model.clone()
    for name, array in arrays.items():
        set_constant(copy.graph.initializers[name], array.astype(np.float32))
    return copy
