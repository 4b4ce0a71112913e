"""The layers whose channels can be scaled and shifted, and the graph with some of them moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.adaptation.moves import Move
from segedge.card.statistics import Channels, Statistics
from segedge.precision.graph import attribute, copied, fresh, onnx


@dataclass(frozen=True)
class Layer:
    """A layer with constant weights, and what is expected of the value that it makes."""

    value: str
    """The value's name in the graph."""
    node: int
    """The layer's place among the graph's nodes."""
    expected: Channels
    """Of the value's channels."""
    small: bool = False
    """Whether its value has so few positions an image that they tell no deviation."""


def constants_of(model: Any) -> dict[str, NDArray[Any]]:
    """Name to array of the graph's initializers."""
    to_array = onnx().numpy_helper.to_array
    return {tensor.name: to_array(tensor) for tensor in model.graph.initializer}


def find_layers(model: Any, statistics: Statistics) -> tuple[Layer, ...]:
    """The layers that the statistics are of, in the order of the graph."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    expected = statistics.expected
    return tuple(
        Layer(node.output[0], place, expected[node.output[0]])
        for place, node in enumerate(model.graph.node)
        if node.output[0] in expected
        and channels_of(node, shapes) == len(expected[node.output[0]])
    )  # fmt: skip


def channels_of(node: Any, shapes: Mapping[str, Sequence[int]]) -> int | None:
    """Channels that a layer with constant weights makes; None where it is none of those."""
    if len(node.input) < 2 or node.input[1] not in shapes:
        return None
    shape = shapes[node.input[1]]
    if node.op_type == "Conv" and len(shape) == 4:
        return int(shape[0])
    if node.op_type == "ConvTranspose" and len(shape) == 4:
        return int(shape[1]) * int(attribute(node, "group", 1))
    is_norm = node.op_type == "BatchNormalization" and node.input[2] in shapes
    return int(shape[0]) if is_norm else None


def folded(model: Any, layers: Sequence[Layer], moves: Mapping[str, Move]) -> Any:
    """The graph with each moved value scaled and shifted by its own layer's weights.

    Same nodes, same shapes. A weight that two layers share gets a copy for the one that is moved.
    """
    copy, arrays = copied(model), constants_of(model)
    uses = Counter(name for node in copy.graph.node for name in node.input)
    taken = {*arrays, *(name for node in copy.graph.node for name in node.output)}
    new: dict[str, NDArray[Any]] = {}
    for layer in layers:
        if layer.value not in moves:
            continue
        node, move = copy.graph.node[layer.node], moves[layer.value]
        for place, array in _moved(node, arrays, move).items():
            while len(node.input) <= place:
                node.input.append("")
            name = node.input[place]
            if not name or uses[name] > 1:
                name = node.input[place] = fresh(name or f"{layer.value}_shift", taken)
            new[name] = array
    _set_constants(copy, new)
    return copy


def _moved(node: Any, arrays: Mapping[str, NDArray[Any]], move: Move) -> dict[int, NDArray[Any]]:
    """A layer's new weights and bias, by their place among its inputs."""
    weight = arrays[node.input[1]].astype(np.float64)
    has_bias = len(node.input) > 2 and node.input[2]
    bias = arrays[node.input[2]].astype(np.float64) if has_bias else np.zeros(len(move.scale))
    if node.op_type == "ConvTranspose":
        group = int(attribute(node, "group", 1))
        read, made = weight.shape[:2]
        by_group = weight.reshape(group, read // group, made, *weight.shape[2:])
        scale = move.scale.reshape(group, 1, made, *[1] * (weight.ndim - 2))
        scaled = (by_group * scale).reshape(weight.shape)
    else:
        scaled = weight * move.scale.reshape(-1, *[1] * (weight.ndim - 1))
    kind = arrays[node.input[1]].dtype
    return {1: scaled.astype(kind), 2: (bias * move.scale + move.shift).astype(kind)}


def _set_constants(model: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    from_array = onnx().numpy_helper.from_array
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, array in arrays.items():
        tensor = known[name] if name in known else model.graph.initializer.add()
        tensor.CopyFrom(from_array(array, name))
