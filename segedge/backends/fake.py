"""FakeBackend: logits from a plain function, for tests and for measuring everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import Arrays, Memory, Precision, delivered, one_image_specs
from segedge.card.card import ModelCard

Network = Callable[[NDArray[Any]], NDArray[Any]]


class FakeBackend:
    """A backend without a library: needs no model file, GPU or time."""

    memory: Memory = "host"
    precision: Precision = "f32"
    description = "fake (no network)"

    def __init__(self, card: ModelCard, *, network: Network | None = None) -> None:
        """Make one that fits a card.

        Args:
            card: Gives input size, channels and stride.
            network: From the input tensor to logits 1 x C x Gh x Gw; None makes classes by
                brightness: a class wins where the image is as bright as its share of the range.
        """
        self._network = network or _by_brightness(card)
        shape = (1, 3, card.input_height, card.input_width)
        self.specs = one_image_specs(shape, self._network(np.zeros(shape, np.float32)))
        self.calls = 0

    def run(self, inputs: Arrays, outputs: Arrays | None = None, *, stream: int = 0) -> Arrays:
        """Run once; see `Backend.run`."""
        self.calls += 1
        return delivered([self._network(inputs[0])], outputs)

    def close(self) -> None:
        """Nothing to free."""


def _by_brightness(card: ModelCard) -> Network:
    """Logit of class k is minus the distance of the mean channel to k's share of -2..2."""
    centers = np.linspace(-2.0, 2.0, card.channels, dtype=np.float32)[:, None, None]

    def network(tensor: NDArray[Any]) -> NDArray[Any]:
        brightness = tensor[0, :, :: card.stride, :: card.stride].mean(axis=0)
        return np.ascontiguousarray(-np.abs(brightness[None] - centers)[None], np.float32)

    return network
