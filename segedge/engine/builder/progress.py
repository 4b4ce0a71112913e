"""Progress of a build, from TensorRT's own progress monitor, and how Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from segedge.engine.flavour import Flavour
from segedge.machine.interrupt import on_interrupt


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is."""

    phase: str
    """What is being done, in TensorRT's words: ``Optimizing graph``."""
    fraction: float
    """Share of the steps that are done, 0..1; it never falls. Steps differ much in length."""


ProgressCallback = Callable[[BuildProgress], None]


@dataclass
class _Phase:
    name: str
    steps: int
    done: int = 0


class PhaseTracker:
    """Turns nested phases into one fraction; knows nothing of TensorRT."""

    def __init__(self) -> None:
        self._open: list[_Phase] = []
        self._fraction = 0.0

    def start(self, name: str, steps: int) -> BuildProgress:
        """A phase inside the innermost open one begins."""
        self._open.append(_Phase(name, max(steps, 1)))
        return self._state()

    def step(self, name: str, index: int) -> BuildProgress:
        """Step ``index``, counted from 0, of an open phase is done."""
        for phase in self._open:
            if phase.name == name:
                phase.done = min(index + 1, phase.steps)
        return self._state()

    def finish(self, name: str) -> BuildProgress:
        """A phase ends, and every phase inside it."""
        while any(phase.name == name for phase in self._open):
            if self._open.pop().name == name:
                break
        if not self._open:
            self._fraction = 1.0
        return self._state()

    def _state(self) -> BuildProgress:
        fraction = 0.0
        for phase in reversed(self._open):
            fraction = min((phase.done + fraction) / phase.steps, 1.0)
        self._fraction = max(self._fraction, fraction)
        return BuildProgress(self._open[-1].name if self._open else "", self._fraction)


def progress_monitor(
    flavour: Flavour, report: ProgressCallback | None, stop: threading.Event
) -> Any:
    """An ``IProgressMonitor`` that reports, and cancels the build once ``stop`` is set.

    Nothing may be raised into TensorRT's C++: an exception of the callback is kept in the
    monitor's ``failure``, and the build is cancelled.
    """
    trt = flavour.module
    tracker = PhaseTracker()

    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self.failure: BaseException | None = None

        def _tell(self, progress: BuildProgress) -> None:
            if report is None or self.failure is not None:
                return
            try:
                report(progress)
            except BaseException as error:
                self.failure = error

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._tell(tracker.start(phase_name, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(tracker.step(phase_name, step))
            return not stop.is_set() and self.failure is None

        def phase_finish(self, phase_name: str) -> None:
            self._tell(tracker.finish(phase_name))

    return Monitor()


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP set.

    Nothing may be raised in the middle of TensorRT's callbacks. Outside the main thread, where
    signals cannot be handled, the event is never set.
    """
    stop = threading.Event()
    with on_interrupt(lambda name: stop.set(), all_of_them=True):
        yield stop
