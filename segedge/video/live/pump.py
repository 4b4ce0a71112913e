"""Pump: items from a thread that may block for long, for one who must be able to leave at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_CAPACITY = 2
"""Items that wait: one ready while the next is made; more would only grow old."""


class PumpStalled(Exception):  # noqa: N818 - a signal, translated by who waits
    """Nothing came within the time."""


class Pump(Generic[T]):
    """Runs an iterator in a daemon thread.

    FFmpeg and drivers can be asked for a time-out but not be interrupted from another thread
    (PyAV's interrupt callback knows only the time, name resolution and V4L2 not even that). So
    the blocking call has a thread of its own: `close` releases the reader in no time, and that
    thread ends by itself when its call returns.
    """

    def __init__(self, items: Callable[[], Iterator[T]], *, name: str = "segedge-read") -> None:
        """Start the thread; ``items`` is called in it, and its iterator is closed there, too."""
        self._items = items
        self._queue: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._only_newest = False
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def keep_newest(self) -> None:
        """Until the next `get` throw away all but the newest item, so that none grows old."""
        with self._changed:
            self._only_newest = True
            self._changed.notify_all()

    def get(self, timeout_seconds: float | None = None) -> T | None:
        """The next item, or None when the iterator has ended or the pump is closed.

        What the iterator raised is raised once.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._changed:
            self._only_newest = False
            while not (self._queue or self._ended or self._closed):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise PumpStalled
                self._changed.wait(left)
            if self._closed:
                return None
            if self._queue:
                item = self._queue.popleft()
                self._changed.notify_all()
                return item
            # An error holds, by its traceback, this pump with all that it read from: raised once it
            # holds nothing, and decoders and their threads end without waiting for the collector.
            error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error
        return None

    def close(self) -> None:
        """Release who waits in `get`; the thread ends when its blocking call returns."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            items = self._items()
            try:
                for item in items:
                    if not self._put(item):
                        return
            finally:
                close = getattr(items, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Whether there is still somebody to put it for."""
        with self._changed:
            while len(self._queue) >= _CAPACITY and not self._closed and not self._only_newest:
                self._changed.wait()
            if self._closed:
                return False
            if self._only_newest:
                self._queue.clear()
            self._queue.append(item)
            self._changed.notify_all()
            return True
