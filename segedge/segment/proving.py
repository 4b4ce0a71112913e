"""The proof of a file that is being opened: read and prepared beside the opening."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from segedge.backends.base import Backend
from segedge.backends.registry import may_run_on_host
from segedge.card.card import ModelCard
from segedge.machine.optional import await_import
from segedge.segment.check import Prover, stamps_of

if TYPE_CHECKING:
    from segedge.cpu.ready import Ready
    from segedge.segment.common import Common


class Proving:
    """What `load` asks a file's `Prover`, which is made while a backend works.

    Importing a library and loading kernels need the interpreter, and an opening waits for both; a
    network's compiling does not need it. So on the CPU nothing is done before that.
    """

    def __init__(
        self, path: Path, card: ModelCard, *, threads: int | None, graphs: bool,
        ready: Ready | None, common: Common | None,
    ) -> None:  # fmt: skip
        """Nothing is read yet, by a backend neither; ``ready`` loads the kernels, if any."""
        self._path, self._card, self._threads, self._graphs = path, card, threads, graphs
        self._ready, self._common, self._stamps = ready, common, stamps_of(path)
        self._making = threading.Lock()
        self._made: list[Prover | None] = []

    @property
    def prover(self) -> Prover | None:
        """The file's; None where it has none, which is said."""
        with self._making:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def begin(self, name: str) -> None:
        """Prepare beside the opening of a backend that nothing is known of."""
        if not may_run_on_host(name):
            return
        if self._ready is None:
            self._prepare(name)
        else:
            self._ready.afterwards(lambda: self._prepare(name))

    def refuses(self, name: str, backend: Backend | None) -> str:
        """Why `auto` does not take a backend; without it opened, as far as that is known."""
        if backend is None:
            why = "" if Prover.has_refused_nothing() else self._refused_before(name)
            if not why:
                self.begin(name)
            return why
        prover = self.prover
        found = None if prover is None else prover.check(name, backend)
        return "" if found is None or found.passed else found.text

    def _refused_before(self, name: str) -> str:
        prover = self.prover
        return "" if prover is None or not may_run_on_host(name) else prover.refused_before(name)

    def _prepare(self, name: str) -> None:
        await_import(name.partition(":")[0])
        prover = self.prover
        if prover is not None:
            prover.begin(name)

    def _make(self) -> Prover | None:
        return Prover.of(
            self._path, self._card, threads=self._threads, graphs=self._graphs,
            common=self._common, stamps=self._stamps,
        )  # fmt: skip
