"""Where what a network expects of its channels comes from: its file, its graph, or images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segedge.adaptation.layers import Layer, channels_of, find_layers
from segedge.adaptation.measure import Tick, measure
from segedge.card.statistics import Channels, Statistics
from segedge.convert.statistics import batch_norms
from segedge.errors import ModelError
from segedge.graph.kit import Model

_PER_IMAGE = ("InstanceNormalization", "GroupNormalization", "LayerNormalization")
_SOURCE = "--source IMAGES measures them, on images like those of training"


def known_statistics(model: Model, carried: Statistics | None) -> Statistics | None:
    """What the file says, else what the batch normalisations in its graph say."""
    if carried is not None and find_layers(model, carried):
        return carried
    found = batch_norms(model)
    return Statistics.of("BatchNorm", found) if found else None


def measured_statistics(
    model: Model, tensors: Iterable[NDArray[np.float32]], *, origin: str, tick: Tick
) -> Statistics:
    """Mean and deviation of what each convolution makes, but for the one that makes the output."""
    layers = []
    for node in model.graph:
        channels, value = channels_of(node), node.outputs[0]
        if channels and not value.is_graph_output():
            layers.append(Layer(value.name, Channels(np.zeros(channels), np.ones(channels))))
    if not layers:
        raise ModelError(
            "the network has no layer whose channels could be scaled and shifted",
            facts={"found": operators(model)},
        )
    found = measure(model, layers, tensors, normalise=False, tick=tick)
    return Statistics.of(
        origin,
        {name: Channels(one.mean, np.sqrt(one.variance)) for name, one in found.items()},
    )


def no_statistics_error(path: Path, model: Model) -> ModelError:
    """The refusal of a network that nothing is known of, with what was found in it."""
    counts = Counter(node.op_type for node in model.graph)
    own = {name: counts[name] for name in _PER_IMAGE if counts[name]}
    if own:
        listing = ", ".join(f"{count} {name}" for name, count in own.items())
        return ModelError(
            f"{path.name} has nothing to adapt: its normalisations take each image by itself",
            facts={"found": f"{listing}, no BatchNormalization"},
            fix="a network with batch normalisation can be adapted; this one is fine-tuned",
        )
    return ModelError(
        f"{path.name} does not say what its layers expect",
        facts={"found": f"no statistics in the file, no BatchNormalization; {operators(model)}"},
        fix=f"export it again from PyTorch, which writes them, or {_SOURCE}",
    )


def operators(model: Model) -> str:
    """The operators of a graph, the most frequent first."""
    counts = Counter(node.op_type for node in model.graph)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common(5))
