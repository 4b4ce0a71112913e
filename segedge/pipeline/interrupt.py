"""Ctrl-C, SIGTERM and a closed terminal as requests instead of ends that may strike anywhere."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_OURS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
if hasattr(signal, "SIGHUP"):  # Windows has none
    _OURS[signal.SIGHUP] = signal.SIG_DFL
"""The handlers that mean that nobody else has taken the signal."""
_noted: list[str] = []
"""Signals that were raised as KeyboardInterrupt within `noted_interrupts`."""


def _note_and_raise(number: int, frame: FrameType | None) -> None:
    _noted.append(signal.Signals(number).name)
    raise KeyboardInterrupt


@contextmanager
def noted_interrupts() -> Iterator[None]:
    """Within the ``with`` statement a Ctrl-C that Python loses is heard of by `on_interrupt`.

    KeyboardInterrupt is raised wherever the main thread is. In a finalizer, which the garbage
    collector may begin at any time, it is printed and ignored: what comes next would run on.
    """
    main = threading.current_thread() is threading.main_thread()
    is_ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _note_and_raise)
    try:
        yield
    finally:
        _noted.clear()
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave_closed_terminal() -> None:
    """Where the terminal is gone, what is printed goes nowhere: it would be an error each time."""
    for descriptor in (1, 2):
        with suppress(OSError):
            is_gone = not os.isatty(descriptor) and stat.S_ISCHR(os.fstat(descriptor).st_mode)
            if is_gone:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


@contextmanager
def on_interrupt(request: Callable[[str], None]) -> Iterator[None]:
    """Within the ``with`` statement the first Ctrl-C, SIGTERM or SIGHUP calls ``request``.

    It is given the signal's name. After that they do what they always do: the second Ctrl-C raises,
    the second SIGTERM ends the process. A terminal that is closed sends SIGHUP more than once (the
    shell, then the system): those that follow the first are nothing.

    ``request`` runs in the main thread between any two of its instructions: it must not take a
    lock that the main thread may hold and that is not reentrant. In other threads, and where the
    program has a handler of its own, nothing changes: those get KeyboardInterrupt, or nothing.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _OURS} if main else {}
    ours = {n: h for n, h in before.items() if h in (_OURS[n], _note_and_raise)}

    def restore() -> None:
        for number, usual in ours.items():
            signal.signal(number, usual)

    def handler(number: int, frame: FrameType | None) -> None:
        restore()
        if signal.Signals(number).name == "SIGHUP":
            signal.signal(number, signal.SIG_IGN)
            _leave_closed_terminal()
        request(signal.Signals(number).name)

    for number in ours:
        signal.signal(number, handler)
    try:
        if _noted:
            request(_noted[-1])
        yield
    finally:
        restore()
