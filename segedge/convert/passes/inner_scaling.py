"""Normalisation inside a network: what its graph does to the image before the first layer.

It changes nothing. What normalises an image outside, too, would normalise it twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.graph.kit import Model, Node, Value, attribute, constant

Array = NDArray[np.float64]
_MOVES = (
    "Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Gather", "GatherND",
    "Slice", "Split", "Concat", "Pad", "Clip",
)  # fmt: skip
"""What moves values, and leaves them, but for some at the ends, what they are."""
_PICKS = ("Gather", "GatherND", "Slice", "Split")
"""What takes a channel, where channels are scaled one by one."""
_ASIDE = ("Shape", "Size")
_MOST_STEPS = 32


@dataclass(frozen=True)
class InnerScaling:
    """``value * factor + shift``, over the channels' mean, and how it is written in the graph."""

    operators: tuple[str, ...]
    """Operator types, in the order of computation."""
    factor: float
    shift: float

    def __str__(self) -> str:
        return ", ".join(self.operators)


def inner_scaling(model: Model) -> InnerScaling | None:
    """What a graph multiplies its image by and adds to it first; None where it does neither."""
    inputs = list(model.graph.inputs)
    if len(inputs) != 1:
        return None
    value, names = inputs[0], []
    factor, shift = np.ones(1), np.zeros(1)
    for _ in range(_MOST_STEPS):
        node, index = _reader(value)
        if node is None:
            break
        if node.op_type not in _MOVES:
            step = _step(node, index)
            if step is None:
                break
            names.append(node.op_type)
            factor, shift = (step[0].mean() * each for each in (factor, shift))
            shift = shift + step[1].mean()
        value = node.outputs[0]
    if not names or not factor.any():
        return None
    return InnerScaling(tuple(names), float(factor.mean()), float(shift.mean()))


def _reader(value: Value) -> tuple[Node | None, int]:
    """The one node that goes on with a value; the first where several take channels of it."""
    uses = [use for use in value.uses() if use.node.op_type not in _ASIDE]
    if not uses or (len(uses) > 1 and any(use.node.op_type not in _PICKS for use in uses)):
        return None, 0
    return uses[0].node, uses[0].idx


def _step(node: Node, index: int) -> tuple[Array, Array] | None:
    """Factor and shift by a node; None where it is another kind, or not by a number a channel."""
    if node.op_type == "BatchNormalization" and index == 0:
        return _of_norm(node)
    effect = _EFFECTS.get((node.op_type, index))
    if effect is None:
        return None
    number = constant(node.inputs[1 - index])
    if number is None or number.size not in (1, 3) or number.dtype.kind not in "fiu":
        return None
    return effect(number.astype(np.float64).ravel())


def _of_norm(node: Node) -> tuple[Array, Array] | None:
    """By its running statistics: what a layer learned to make of them says nothing of the image."""
    mean, variance = (constant(value) for value in node.inputs[3:5])
    if mean is None or variance is None or mean.size > 3:
        return None
    factor = 1.0 / np.sqrt(variance.astype(np.float64) + attribute(node, "epsilon", 1e-5))
    return factor, -mean * factor


def _times(number: Array) -> tuple[Array, Array]:
    return number, np.zeros_like(number)


def _plus(number: Array) -> tuple[Array, Array]:
    return np.ones_like(number), number


_EFFECTS: dict[tuple[str, int], Callable[[Array], tuple[Array, Array]]] = {
    ("Mul", 0): _times,
    ("Mul", 1): _times,
    ("Add", 0): _plus,
    ("Add", 1): _plus,
    ("Sub", 0): lambda number: _plus(-number),
    ("Sub", 1): lambda number: (-np.ones_like(number), number),
    ("Div", 0): lambda number: _times(1.0 / np.where(number == 0, np.inf, number)),
}
"""By operator and the place of the image among its inputs."""
