"""Threads that an encoder makes: ordinary ones, whatever it wished."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TASKS = Path("/proc/self/task")


@contextmanager
def ordinary_threads() -> Iterator[None]:
    """Undo the real-time priority that a library takes for itself within.

    Run as root, as in most containers, SVT-AV1 gives its threads and the one that opens it the
    highest real-time priority (SCHED_FIFO, 99) and never takes it back: everything else on the
    machine starves, and each child process inherits it. What was real-time before stays so.
    """
    before = _real_time_threads()
    try:
        yield
    finally:
        for thread in _real_time_threads() - before:
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _real_time_threads() -> set[int]:
    """Kernel ids of the threads of this process that are scheduled before all ordinary ones."""
    if sys.platform != "linux":
        return set()
    found = set()
    for task in _TASKS.iterdir():
        with suppress(OSError):
            if os.sched_getscheduler(int(task.name)) in (os.SCHED_FIFO, os.SCHED_RR):
                found.add(int(task.name))
    return found
