"""What a look at a proof's picture needs, as far as no backend gives it: made while one opens."""

from __future__ import annotations

import importlib
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segedge.backends.registry import ENGINE_SUFFIXES
from segedge.card.card import ModelCard
from segedge.card.modelfile import graph_sha256
from segedge.card.proof import Answer, Proof
from segedge.segment.common import Common

LOOKING = "segedge.reference.proof"
"""What only a look imports."""


class Ahead:
    """The first picture, its frame on the CPU but for the network, and the file's digest.

    One thread makes them in this order, as the backend needs the other processors; what was not
    begun is made when it is asked for.
    """

    def __init__(self, path: Path, card: ModelCard, proof: Proof) -> None:
        """Nothing is made yet; the card is of the size that the file is proved at."""
        self._path, self._card, self._proof = path, card, proof
        self._rehearsed: Future[None] | None = None

    def begin(self, common: Common) -> None:
        """Make it all for a network on the CPU."""
        picture, network = self._picture, self._proof.network

        def rehearse() -> None:
            pixels = picture.result()
            importlib.import_module(LOOKING)
            common.rehearse(self._card, pixels, network)

        self._rehearsed = self._threads.submit(rehearse)
        _ = self._is_same

    def pixels(self, answer: Answer) -> NDArray[np.uint8]:
        """An answer's picture; nothing is being rehearsed with it any more."""
        if answer is not self._proof.answers[0]:
            return answer.picture.pixels()
        if self._rehearsed is not None:
            wait([self._rehearsed])  # what failed there fails again with the frame, and is told
        return self._picture.result()

    def has_its_weights(self) -> bool:
        """Whether the graph is that of the proof."""
        return self._is_same.result()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="segedge-proof")

    @cached_property
    def _picture(self) -> Future[NDArray[np.uint8]]:
        return self._threads.submit(self._proof.answers[0].picture.pixels)

    @cached_property
    def _is_same(self) -> Future[bool]:
        """An engine's plan has a digest of its own, which is checked when it is read."""
        is_engine = self._path.suffix.lower() in ENGINE_SUFFIXES
        return self._threads.submit(
            lambda: is_engine or graph_sha256(self._path) == self._proof.graph_sha256
        )
