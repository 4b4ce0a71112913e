"""Ctrl-C and SIGTERM as requests instead of ends that may strike anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_OURS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""The handlers that mean that nobody else has taken the signal."""


@contextmanager
def on_interrupt(request: Callable[[str], None]) -> Iterator[None]:
    """Within the ``with`` statement the first Ctrl-C or SIGTERM calls ``request``.

    It is given ``SIGINT`` or ``SIGTERM``. After that both signals do what they always do: the
    second Ctrl-C raises, the second SIGTERM ends the process.

    ``request`` runs in the main thread between any two of its instructions: it must not take a
    lock that the main thread may hold and that is not reentrant. In other threads, and where the
    program has a handler of its own, nothing changes: those get KeyboardInterrupt, or nothing.
    """
    main = threading.current_thread() is threading.main_thread()
    ours = [number for number, usual in _OURS.items() if main and signal.getsignal(number) == usual]

    def restore() -> None:
        for number in ours:
            signal.signal(number, _OURS[number])

    def handler(number: int, frame: FrameType | None) -> None:
        restore()
        request(signal.Signals(number).name)

    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        restore()
