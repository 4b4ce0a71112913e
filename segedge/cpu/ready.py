"""Making the kernels of a frame ready: mapping them beside other work, compiling them elsewhere.

Kept kernels are there in milliseconds; compiling them takes seconds. `Ready` says what a frame's
stages run meanwhile.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Literal

from segedge.card.card import ModelCard
from segedge.cpu import child
from segedge.cpu.code import kernels, plain
from segedge.cpu.kernels.image import IS_KNOWN
from segedge.cpu.small_frame import run_small_frame
from segedge.machine.cache_folder import cache_folder

Patience = Literal["wait", "beside", "none"]
"""Where kernels must be compiled: the first frame waits; frames are computed in NumPy meanwhile,
and kernels are compiled in a process of their own; frames are few, and NumPy computes them all."""
_log = logging.getLogger("segedge")


class Ready:
    """The kernels of a model's frames, as they become ready; called, it is a `Code`."""

    def __init__(self, card: ModelCard | None = None, *, patience: Patience = "wait") -> None:
        """Begin to load, in a thread; without a card, what most networks need."""
        self._card, self._patience = card, patience
        self._settled = threading.Event()
        self._settling = threading.Lock()
        self._steps: list[Callable[[], object]] = []
        self._usable = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._closing = threading.Lock()
        self._is_closed = False
        threading.Thread(target=self._prepare, name="segedge-ready", daemon=True).start()

    def __call__(self) -> ModuleType:
        """The kernels, or NumPy where nobody shall wait for them."""
        return kernels() if self._patience == "wait" or self._usable.is_set() else plain()

    def settle(self) -> None:
        """Wait until it is decided: all is loaded, or is being compiled elsewhere."""
        self._settled.wait()

    def afterwards(self, step: Callable[[], object]) -> None:
        """Take a step when it is decided, in the thread that loads, and before `settle` returns.

        Where it has been decided before, at once. Steps beside the loading would hold it up, and
        it them: threads share an interpreter. One that fails is left, either way: what it was to
        make is made where it is needed.
        """
        with self._settling:
            if not self._settled.is_set():
                self._steps.append(step)
                return
        with suppress(Exception):
            step()

    def close(self) -> None:
        """End what still compiles."""
        with self._closing:
            self._is_closed = True
            if self._child is not None:
                self._child.kill()

    def _prepare(self) -> None:
        # What fails here fails again, and is told, where the kernels are used.
        with suppress(Exception):
            if self._patience == "wait":
                run_small_frame(self._card)
            elif self._is_brief or not self._load():
                self._decide()
                if self._patience == "none":
                    return
                if cache_folder().problem is None:
                    self._compile()
                if not self._is_closed:
                    run_small_frame(self._card)
        self._usable.set()
        self._decide()

    def _decide(self) -> None:
        with self._settling:
            steps, self._steps = self._steps, []
            with suppress(Exception):  # as above
                for step in steps:
                    step()
            self._settled.set()

    @property
    def _is_brief(self) -> bool:
        """Whether all frames are done before kernels are loaded that need Numba."""
        return self._patience == "none" and not IS_KNOWN

    def _load(self) -> bool:
        """Load what was compiled before, if all of it was."""
        from segedge.cpu.kernels.kept import NotKeptError, only_kept

        try:
            with only_kept():
                run_small_frame(self._card)
        except NotKeptError:
            return False
        return True

    def _compile(self) -> None:
        """Fill the cache in another process, as this one's interpreter is needed for frames.

        It sees by its standard input that this process has ended, however that was, and ends, too.
        """
        with self._closing:
            if self._is_closed:
                return
            paths = os.pathsep.join(path for path in sys.path if path)
            self._child = subprocess.Popen(
                [sys.executable, "-m", child.__name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,  # what is left in a buffer would fail again when the pipe is closed
                start_new_session=True,  # Ctrl-C is ours to handle
                env={**os.environ, "PYTHONPATH": paths},
            )
        with self._child as process:
            assert process.stdin, "a pipe"
            assert process.stderr, "a pipe"
            told = "" if self._card is None else self._card.to_json()
            with suppress(OSError):  # it has ended already, and says why
                process.stdin.write(f"{told}\n".encode())
                process.stdin.flush()
            said = process.stderr.read().decode(errors="replace").strip()
        if process.returncode != 0 and not self._is_closed:
            reason = said.splitlines()[-1] if said else f"code {process.returncode}"
            _log.warning("kernels are compiled within the run, beside it that failed: %s", reason)
