"""A few threads that share one piece of work and sleep in between.

Kernels run without the interpreter lock and take their rows by an atomic ticket, so *any* number
of participants completes the work: a helper that wakes late finds nothing left and is not waited
for, and a caller that finds the helpers busy simply does everything itself. Nothing spins:
spinning pools starve the network's own threads on small machines.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue

from segedge.machine.processors import usable_processors

Task = Callable[[int], None]
"""Works until no ticket is left; its argument is a participant number below `Workers.count`."""

_MOST_BY_DEFAULT = 4
"""A job of a millisecond gains nothing from more threads: memory is the limit by then."""


class Workers:
    """The calling thread and ``count - 1`` sleeping helpers."""

    def __init__(self, count: int | None = None) -> None:
        """Prepare; the helpers start with the first `run`.

        ``count`` includes the caller: by default the processors that this process may use, four
        at most.
        """
        if count is None:
            count = min(_MOST_BY_DEFAULT, usable_processors())
        self.count = max(1, count)
        self._busy = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def run(self, task: Task) -> None:
        """Call ``task(0)`` here and ``task(1..)`` in the helpers; return when all are done.

        Safe from several threads at once: while the helpers serve one caller, the others call
        ``task(0)`` alone.

        Raises:
            BaseException: Whatever the task raised, in any participant.
        """
        if self.count == 1 or not self._busy.acquire(blocking=False):
            task(0)
            return
        try:
            self._share(task)
        finally:
            self._busy.release()

    def close(self) -> None:
        """End the helper threads. A later `run` starts new ones."""
        with self._busy:
            for _ in self._threads:
                self._jobs.put(None)
            for thread in self._threads:
                thread.join()
            self._threads.clear()

    def __del__(self) -> None:
        for _ in self._threads:  # they know only the queue, and end
            self._jobs.put(None)

    def _share(self, task: Task) -> None:
        while len(self._threads) < self.count - 1:
            name = f"segedge-cpu-{len(self._threads) + 1}"
            thread = threading.Thread(target=_serve, args=(self._jobs,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        job = _Job(task)
        for _ in self._threads:
            self._jobs.put(job)
        try:
            task(0)
        finally:
            job.close()
        if job.error is not None:
            raise job.error


class _Job:
    """One task and who takes part in it."""

    def __init__(self, task: Task) -> None:
        self._task: Task | None = task
        self._lock = threading.Lock()
        self._all_left = threading.Lock()
        self._all_left.acquire()
        self._entered = 0
        self._inside = 0
        self.error: BaseException | None = None

    def join_in(self) -> None:
        """Take part, unless the caller has finished already."""
        with self._lock:
            task = self._task
            if task is None:
                return
            self._entered += 1
            self._inside += 1
            participant = self._entered
        try:
            task(participant)
        except BaseException as error:  # handed to the caller of Workers.run
            self.error = error
        with self._lock:
            self._inside -= 1
            if self._task is None and self._inside == 0:
                self._all_left.release()

    def close(self) -> None:
        """Admit nobody any more and wait for those inside."""
        with self._lock:
            self._task = None
            wait = self._inside > 0
        if wait:
            self._all_left.acquire()


def _serve(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.join_in()
        del job  # or its arrays would live until the next one


@cache
def shared_workers() -> Workers:
    """The pool that everything uses by default."""
    return Workers()
