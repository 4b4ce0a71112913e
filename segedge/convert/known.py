"""What an exported network's answers look like on the images that parity is measured on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.familiar import Familiar
from segedge.card.geometry import Size
from segedge.convert.parity import Image, Network
from segedge.drift.glance import Glance, familiar_of, glance, thinned


class Known:
    """A network that is watched while images pass by: the same answers, and figures of them."""

    def __init__(self, network: Network, card: ModelCard) -> None:
        self.network = network
        self._card = card
        self._image: Image | None = None
        self._glances: list[Glance] = []

    def passing(self, images: Iterable[Image]) -> Iterator[Image]:
        """The same images; the next answer is to the latest."""
        for image in images:
            self._image = image
            yield image

    def __call__(self, tensor: NDArray[np.float32]) -> NDArray[Any]:
        """The network's answer."""
        output = self.network(tensor)
        if self._image is not None and self._card.head == "logits":
            size = Size(*self._image.shape[:2])
            self._glances.append(glance(size, thinned(self._image), output, self._card))
            self._image = None
        return output

    @property
    def familiar(self) -> Familiar | None:
        """What the answers looked like; None where no image came by."""
        return familiar_of(self._glances, "exported") if self._glances else None
