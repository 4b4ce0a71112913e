"""Ctrl-C as a request instead of an exception that may strike anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_interrupt(request: Callable[[], None]) -> Iterator[None]:
    """Within the ``with`` statement the first Ctrl-C calls ``request``, the second one raises.

    ``request`` runs in the main thread between any two of its instructions: it must not take a
    lock that the main thread may hold and that is not reentrant. In other threads, and where the
    program has a handler of its own, nothing changes: those get KeyboardInterrupt, or nothing.
    """
    ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return

    def handler(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        request()

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
