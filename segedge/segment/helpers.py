"""Helpers: threads that do small tasks, and who waits for one does some, too."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Tasks = deque[tuple[Future[Any], Callable[[], Any]]]


class Helpers:
    """Tasks are begun in the order they came, by the helpers and by whoever waits in `wait`.

    So a thread that has nothing to do until a task is done does not sleep beside it, and as many
    threads work as there are helpers and one.
    """

    def __init__(self, count: int, name: str) -> None:
        """Begin; a helper starts when there is something to do for it."""
        self._count, self._name = count, name
        self._tasks: _Tasks = deque()
        self._bell: SimpleQueue[bool] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def begin(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Hand in a task. It may wait by ``result()`` for those that came before it, no others."""
        future: Future[T] = Future()
        self._tasks.append((future, partial(function, *arguments)))
        if len(self._threads) < self._count:
            name = f"{self._name}-{len(self._threads) + 1}"
            thread = threading.Thread(
                target=_serve, args=(self._bell, self._tasks), name=name, daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._bell.put(True)
        return future

    def wait(self, future: Future[T]) -> T:
        """What came of a task; until it is done this thread does others. Not from inside a task.

        Raises:
            BaseException: What the task raised.
        """
        while not future.done() and _do_next(self._tasks):
            pass
        return future.result()

    def close(self) -> None:
        """Drop what was not begun, and wait for the rest."""
        while self._tasks:
            self._tasks.popleft()[0].cancel()
        for _ in self._threads:
            self._bell.put(False)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def __del__(self) -> None:
        for _ in self._threads:  # they do not know this object, and end
            self._bell.put(False)


def _serve(bell: SimpleQueue[bool], tasks: _Tasks) -> None:
    while bell.get():
        with suppress(KeyboardInterrupt):  # it struck who waits, in a task that this one rests on
            _do_next(tasks)


def _do_next(tasks: _Tasks) -> bool:
    try:
        future, task = tasks.popleft()
    except IndexError:
        return False
    try:
        future.set_result(task())
    except BaseException as error:  # handed to who asks for the result
        future.set_exception(error)
        if not isinstance(error, Exception):  # Ctrl-C struck here, and is meant for who waits
            raise
    return True
