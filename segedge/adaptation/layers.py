"""The layers whose channels can be scaled and shifted, and the graph with some of them moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.adaptation.moves import Move
from segedge.card.statistics import Channels, Statistics
from segedge.graph.kit import Model, Node, attribute, initializer, set_constant, values_by_name
from segedge.graph.typed import fresh


@dataclass(frozen=True)
class Layer:
    """A layer with constant weights, and what is expected of the value that it makes."""

    value: str
    """The value's name in the graph."""
    expected: Channels
    """Of the value's channels."""
    small: bool = False
    """Whether its value has so few positions an image that they tell no deviation."""


def find_layers(model: Model, statistics: Statistics) -> tuple[Layer, ...]:
    """The layers that the statistics are of, in the order of the graph."""
    expected = statistics.expected
    return tuple(
        Layer(name, expected[name])
        for node in model.graph
        if (name := node.outputs[0].name) in expected and channels_of(node) == len(expected[name])
    )


def channels_of(node: Node) -> int | None:
    """Channels that a layer with constant weights makes; None where it is none of those."""
    weights = [value for value in node.inputs[1:3] if value is not None]
    if not weights or not all(value.is_initializer() for value in weights):
        return None
    shape = weights[0].const_value.shape
    if node.op_type == "Conv" and len(shape) == 4:
        return int(shape[0])
    if node.op_type == "ConvTranspose" and len(shape) == 4:
        return int(shape[1]) * int(attribute(node, "group", 1))
    return int(shape[0]) if node.op_type == "BatchNormalization" else None


def folded(model: Model, layers: Sequence[Layer], moves: Mapping[str, Move]) -> Model:
    """The graph with each moved value scaled and shifted by its own layer's weights.

    Same nodes, same shapes. A weight that two layers share gets a copy for the one that is moved.
    """
    copy = model.clone()
    values = values_by_name(copy)
    taken = set(values)
    for layer in layers:
        if layer.value not in moves:
            continue
        node = values[layer.value].producer()
        moved = _moved(node, moves[layer.value])
        node.resize_inputs(max(len(node.inputs), 3))
        for place, array in enumerate(moved, start=1):
            old = node.inputs[place]
            if old is not None and len(old.uses()) == 1:
                set_constant(old, array)
            else:
                name = fresh(f"{layer.value}_shift" if old is None else old.name, taken)
                node.replace_input_with(place, initializer(copy, name, array))
    return copy


def _moved(node: Node, move: Move) -> tuple[NDArray[Any], NDArray[Any]]:
    """A layer's new weights and bias."""
    given = node.inputs[1].const_value.numpy()
    weight, bias = given.astype(np.float64), np.zeros(len(move.scale))
    if node.inputs[2:] and node.inputs[2] is not None:
        bias = node.inputs[2].const_value.numpy().astype(np.float64)
    if node.op_type == "ConvTranspose":
        group = int(attribute(node, "group", 1))
        read, made = weight.shape[:2]
        by_group = weight.reshape(group, read // group, made, *weight.shape[2:])
        scale = move.scale.reshape(group, 1, made, *[1] * (weight.ndim - 2))
        scaled = (by_group * scale).reshape(weight.shape)
    else:
        scaled = weight * move.scale.reshape(-1, *[1] * (weight.ndim - 1))
    return scaled.astype(given.dtype), (bias * move.scale + move.shift).astype(given.dtype)
