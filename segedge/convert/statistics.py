"""What batch normalisations expect, read before they are folded and kept for what is left after."""

from __future__ import annotations

from segedge.card.statistics import Channels, Statistics
from segedge.graph.kit import Model, Value, attribute, constant, shape_of

FOLDED_INTO = ("Conv", "ConvTranspose", "BatchNormalization")
"""Layers whose channels can be scaled and shifted by their own weights."""


def batch_norms(model: Model) -> dict[str, Channels]:
    """What every batch normalisation brings its channels to, by the name of the value it makes."""
    found = {}
    for node in model.graph:
        if node.op_type == "BatchNormalization":
            gamma, beta, _, variance = (constant(value) for value in node.inputs[1:5])
            if gamma is not None and beta is not None and variance is not None:
                epsilon = float(attribute(node, "epsilon", 1e-5))
                found[str(node.outputs[0].name)] = Channels.of_norm(gamma, beta, variance, epsilon)
    return found


def kept_statistics(model: Model, statistics: Statistics) -> Statistics | None:
    """Those of the values that a finished graph still has; None where it has none."""
    made = {str(value.name): value for node in model.graph for value in node.outputs}
    kept = {
        name: channels
        for name, channels in statistics.expected.items()
        if name in made and _can_move(made[name], len(channels))
    }
    return Statistics.of(statistics.origin, kept) if kept else None


def _can_move(value: Value, channels: int) -> bool:
    """Whether the layer that makes a value can take a scale and a shift a channel."""
    node, shape = value.producer(), shape_of(value)
    is_known = shape is not None and len(shape) == 4 and shape[1] == channels
    return is_known and node.op_type in FOLDED_INTO and constant(node.inputs[1]) is not None
