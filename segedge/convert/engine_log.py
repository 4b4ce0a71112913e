"""TensorRT's log of one build, kept: its errors, and the engine's layers that it lists."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import Any

from segedge.convert.engine_layers import EngineLayer, is_layer_log, parse_build_log
from segedge.flavour import Flavour

_ERRORS_KEPT = 100


def build_log(flavour: Flavour) -> Any:
    """An ``ILogger`` with ``errors`` (texts) and ``layers`` (`EngineLayer`); it prints nothing."""
    trt = flavour.module
    error = int(trt.ILogger.Severity.ERROR)

    base: Any = trt.ILogger

    class BuildLog(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[str] = []
            self.layers: tuple[EngineLayer, ...] = ()

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= error:
                if len(self.errors) < _ERRORS_KEPT:
                    self.errors.append(str(msg))
            elif is_layer_log(msg):
                self.layers = parse_build_log(msg)

    return BuildLog()


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
    """Keep Python's cycle collector off while TensorRT may call a logger.

    TensorRT holds a mutex of its own during such a call. If the collector, which any allocation
    may start, then frees a builder or an engine that an earlier error's traceback still held, its
    destructor logs too and waits for that mutex for ever.
    """
    _COLLECTOR.enter()
    try:
        yield
    finally:
        _COLLECTOR.leave()
