"""What a look at a proof's picture needs, as far as no backend gives it: made while one opens."""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segedge.backends.registry import ENGINE_SUFFIXES
from segedge.card.card import ModelCard
from segedge.card.modelfile import graph_sha256
from segedge.card.proof import Answer, Proof
from segedge.segment.common import Common

if TYPE_CHECKING:
    from segedge.cpu.ready import Ready

LOOKING = "segedge.reference.proof"
"""What only a look imports."""


class Ahead:
    """The first picture, its frame on the CPU but for the network, and the file's digest.

    In this order, by one thread; each is made when it is asked for, if nothing was begun.
    """

    def __init__(self, path: Path, card: ModelCard, proof: Proof, common: Common) -> None:
        """Nothing is made yet; the card is of the size that the file is proved at."""
        self._path, self._card, self._proof, self._common = path, card, proof, common
        self._library = ""

    def begin(self, library: str, ready: Ready | None) -> None:
        """Make it all for a backend on the CPU, when its kernels and its library are loaded."""
        self._library = library
        if ready is None:
            self._make()
        else:
            ready.afterwards(self._make)

    def pixels(self, answer: Answer) -> NDArray[np.uint8]:
        """An answer's picture; nothing is being rehearsed with it any more."""
        if answer is not self._proof.answers[0]:
            return answer.picture.pixels()
        if "_rehearsed" in vars(self):
            wait([self._rehearsed])  # what failed there fails again with the frame, and is told
        return self._picture.result()

    def has_its_weights(self) -> bool:
        """Whether the graph is that of the proof."""
        return self._is_same.result()

    def _make(self) -> None:
        _ = self._rehearsed, self._is_same

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="segedge-proof")

    @cached_property
    def _picture(self) -> Future[NDArray[np.uint8]]:
        return self._thread.submit(self._draw)

    def _draw(self) -> NDArray[np.uint8]:
        if self._library in sys.modules:
            importlib.import_module(self._library)  # waits for who is importing it
        return self._proof.answers[0].picture.pixels()

    @cached_property
    def _rehearsed(self) -> Future[None]:
        picture = self._picture
        return self._thread.submit(lambda: self._rehearse(picture.result()))

    def _rehearse(self, picture: NDArray[np.uint8]) -> None:
        importlib.import_module(LOOKING)
        self._common.rehearse(self._card, picture, self._proof.network)

    @cached_property
    def _is_same(self) -> Future[bool]:
        """An engine's plan has a digest of its own, which is checked when it is read."""
        is_engine = self._path.suffix.lower() in ENGINE_SUFFIXES
        return self._thread.submit(
            lambda: is_engine or graph_sha256(self._path) == self._proof.graph_sha256
        )
