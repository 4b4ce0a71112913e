"""Ctrl-C, SIGTERM and a closed terminal as requests instead of ends that may strike anywhere."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
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
"""Signals that were heard of within `noted_interrupts`."""
_ONE_WISH_SECONDS = 1.0
"""``timeout`` and a closing shell send theirs twice; the second must not strike who cleans up."""
_AGAIN_SECONDS = 0.05
"""When what nobody could hand on is raised again."""
BY_SIGNAL = 128
"""Shells add it to the number of the signal that ended a program."""


class _Interrupts:
    """Handler that notes a signal and raises KeyboardInterrupt, whichever it was."""

    def __init__(self) -> None:
        self._heard: dict[int, float] = {}
        self._again: threading.Timer | None = None

    def is_new(self, number: int) -> bool:
        """Note a signal; whether it is a wish of its own."""
        before, now = self._heard.get(number), time.monotonic()
        self._heard[number] = now
        if before is not None and now - before < _ONE_WISH_SECONDS and number != signal.SIGINT:
            return False
        _noted.append(signal.Signals(number).name)
        return True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise."""
        if self.is_new(number):
            if _noted[-1] == "SIGHUP":
                _leave_closed_terminal()
            raise KeyboardInterrupt

    def raise_again(self) -> None:
        """Raise the latest once more, soon: it struck where nobody can hand it on."""
        self.forget()
        number = signal.Signals[_noted[-1]]
        self._heard.pop(number, None)
        # To this thread, which may wait for something by then.
        to = (threading.get_ident(), number)
        self._again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, to)
        self._again.daemon = True
        self._again.start()

    def forget(self) -> None:
        """Do not raise it again."""
        if self._again is not None:
            self._again.cancel()
            self._again.join()


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], int]]:
    """Within the ``with`` statement SIGTERM and SIGHUP are what Ctrl-C is: KeyboardInterrupt.

    What cleans up after one cleans up after all, and what is handed out tells the exit code by the
    latest: 130, 143 or 129; 0 where there was none. KeyboardInterrupt is raised wherever the main
    thread is. In a finalizer, which the garbage collector may begin at any time, and in what a
    library in C calls back, Python prints and ignores it: there it is raised again, a little later,
    unless `on_interrupt` hears of it before.

    What the program or its caller (``nohup``) handles otherwise stays as it is.
    """
    main = threading.current_thread() is threading.main_thread()
    ours = [n for n, usual in _OURS.items() if main and signal.getsignal(n) == usual]
    handler, usual_hook = _Interrupts(), sys.unraisablehook

    def on_unraisable(found: sys.UnraisableHookArgs) -> None:
        if _noted and issubclass(found.exc_type, KeyboardInterrupt):
            handler.raise_again()
        else:
            usual_hook(found)

    for number in ours:
        signal.signal(number, handler)
    if ours:
        sys.unraisablehook = on_unraisable
    try:
        yield lambda: BY_SIGNAL + signal.Signals[_noted[-1]] if _noted else 0
    finally:
        handler.forget()
        _noted.clear()
        for number in ours:
            signal.signal(number, _OURS[number])
        if ours:
            sys.unraisablehook = usual_hook


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
def on_interrupt(request: Callable[[str], None], *, all_of_them: bool = False) -> Iterator[None]:
    """Within the ``with`` statement the first Ctrl-C, SIGTERM or SIGHUP calls ``request``.

    It is given the signal's name. After that they do what they did before: the second Ctrl-C
    raises, the second SIGTERM ends the process (within `noted_interrupts` it raises, too). A
    terminal that is closed sends SIGHUP more than once (the shell, then the system): those that
    follow the first are nothing. With ``all_of_them`` each calls ``request``, and none raises.

    ``request`` runs in the main thread between any two of its instructions: it must not take a
    lock that the main thread may hold and that is not reentrant. In other threads, and where the
    program has a handler of its own, nothing changes: those get KeyboardInterrupt, or nothing.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _OURS} if main else {}
    ours = {n: h for n, h in before.items() if h == _OURS[n] or isinstance(h, _Interrupts)}

    def restore() -> None:
        for number, usual in ours.items():
            signal.signal(number, usual)

    def handler(number: int, frame: FrameType | None) -> None:
        if not all_of_them:
            restore()
        name = signal.Signals(number).name
        if name == "SIGHUP":
            signal.signal(number, signal.SIG_IGN)
            _leave_closed_terminal()
        usual = ours[signal.Signals(number)]
        if isinstance(usual, _Interrupts):
            usual.is_new(number)
        request(name)

    for number in ours:
        signal.signal(number, handler)
    try:
        if _noted:
            for usual in ours.values():
                if isinstance(usual, _Interrupts):
                    usual.forget()
            request(_noted[-1])
        yield
    finally:
        restore()
