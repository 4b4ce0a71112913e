"""Turns: one call at a time, of something that can be closed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from segedge.errors import UsageError
from segedge.frames.closing import check_open


class Turns:
    """``with turns:`` around a call that uses what no two calls may use at once.

    Another thread's call is waited for: what comes of either is right, and which is first is
    nobody's business. A call from within a call, of a signal handler or of a function that the
    first one calls, cannot wait for it, and is refused; so is a call of what is closed. What is
    closed in the midst of a call is freed at its end.
    """

    def __init__(self, name: str, free: Callable[[], None] | None = None, *, fix: str = "") -> None:
        """Begin; ``free`` is a method, called once; ``fix`` helps who calls what is closed."""
        self._name, self._fix = name, fix
        self._free = _nothing if free is None else weakref.WeakMethod(free)
        self._lock = threading.RLock()
        self._is_inside = self._is_closed = False

    def __enter__(self) -> None:
        """Wait for the turn; UsageError where there can be none."""
        self._lock.acquire()
        if self._is_inside or self._is_closed:
            self._lock.release()
            check_open(not self._is_closed, self._name, fix=self._fix)
            raise UsageError(
                f"{self._name} is called in the midst of another call, by the same thread",
                fix="let a signal handler only note that it came, and call after the call",
            )
        self._is_inside = True

    def __exit__(self, *_: object) -> None:
        """Let the next one in."""
        self._is_inside = False
        if self._is_closed:
            self._free_once()
        self._lock.release()

    def check_open(self) -> None:
        """Raise UsageError where it is closed."""
        check_open(not self._is_closed, self._name, fix=self._fix)

    def close(self) -> None:
        """Let nobody in any more; wait for another thread's call."""
        with self._lock:
            self._is_closed = True
            if not self._is_inside:
                self._free_once()

    def _free_once(self) -> None:
        free, self._free = self._free(), _nothing
        if free is not None:
            free()


def _nothing() -> None:
    """In the place of a reference to a method that is called no more."""
