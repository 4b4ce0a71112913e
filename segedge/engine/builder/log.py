"""TensorRT's log, kept instead of printed: its errors, and the engine's layers that it lists.

There is one ``ILogger`` a library and process, and what it is told goes to the `LogRecord` of the
thread at work. TensorRT insists on that: it registers the first logger for everything that lives
beside it, and where a second builder or runtime comes with another one, it warns *through the
logger while it holds its registry's mutex*. Whatever frees a builder at that moment, be it Python's
cycle collector or another thread, then waits for this mutex for ever (test_engine_log.py does it).
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from segedge.engine.flavour import Flavour
from segedge.engine.layers import EngineLayer, is_layer_log, parse_build_log

_ERRORS_KEPT = 100


@dataclass
class LogRecord:
    """What TensorRT said during one piece of work."""

    errors: list[str] = field(default_factory=list)
    layers: tuple[EngineLayer, ...] = ()
    """The engine's layers, where the builder listed them."""

    def add(self, text: str, *, is_error: bool) -> None:
        """Keep a message, if it is one to keep."""
        if is_error:
            self.errors.append(text)
            # A failing kernel search writes thousands; the cause is in the first ones.
            del self.errors[_ERRORS_KEPT:]
        elif is_layer_log(text):
            self.layers = parse_build_log(text)


class _Router:
    """Which record gets a message: the thread's own, else all that are open."""

    def __init__(self) -> None:
        self._open: dict[int, list[LogRecord]] = {}
        self.unclaimed: list[str] = []
        """The newest errors that came while nothing was recorded."""

    @contextlib.contextmanager
    def record(self) -> Iterator[LogRecord]:
        mine = self._open.setdefault(threading.get_ident(), [])
        mine.append(record := LogRecord())
        try:
            yield record
        finally:
            mine.remove(record)
            if not mine:
                self._open.pop(threading.get_ident(), None)

    def route(self, text: str, *, is_error: bool) -> None:
        mine = self._open.get(threading.get_ident())
        if mine:
            mine[-1].add(text, is_error=is_error)
            return
        others = [*self._open.values()]  # one of TensorRT's own threads speaks
        for records in others:
            records[-1].add(text, is_error=is_error)
        if is_error and not others:
            self.unclaimed.append(text)
            del self.unclaimed[:-_ERRORS_KEPT]


_LOGS: dict[Any, Any] = {}
"""``ILogger`` class of a library to the one instance that it ever gets here."""
_LOCK = threading.Lock()


def build_log(flavour: Flavour) -> Any:
    """The process's ``ILogger`` for a library, to be given to everything that wants one.

    Its ``errors`` are the newest ones that came outside `recorded`.
    """
    with _LOCK:
        trt = flavour.module
        if trt.ILogger not in _LOGS:
            _LOGS[trt.ILogger] = _new_log(trt)
        return _LOGS[trt.ILogger]


def _new_log(trt: Any) -> Any:
    base: Any = trt.ILogger
    error = int(trt.ILogger.Severity.ERROR)

    class EngineLog(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self.router = _Router()

        @property
        def errors(self) -> list[str]:
            return self.router.unclaimed

        def log(self, severity: Any, msg: str) -> None:
            self.router.route(str(msg), is_error=int(severity) <= error)

    return EngineLog()


@contextlib.contextmanager
def recorded(flavour: Flavour) -> Iterator[LogRecord]:
    """Keep what TensorRT says to this thread, and keep the cycle collector out of it."""
    with paused_collector(), build_log(flavour).router.record() as record:
        yield record


class _PausedCollector:
    """Counts who needs the collector off; the last one restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._was_on = False

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._was_on = gc.isenabled()
                gc.disable()
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._was_on:
                gc.enable()


_COLLECTOR = _PausedCollector()


@contextlib.contextmanager
def paused_collector() -> Iterator[None]:
    """Keep Python's cycle collector off while TensorRT may call back into Python.

    TensorRT may hold a mutex of its own during such a call. If the collector, which any allocation
    may start, then freed a builder or an engine, its destructor could wait for that mutex for ever.
    The one mutex known to do so is avoided by the one logger; this is for the others.
    """
    _COLLECTOR.enter()
    try:
        yield
    finally:
        _COLLECTOR.leave()
