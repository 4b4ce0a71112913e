"""Mailbox: a bounded queue between two threads that can be closed from either end; and turns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Literal, TypeVar

from segedge.errors import unknown_name_error

T = TypeVar("T")

Policy = Literal["latest", "lossless"]
CAPACITY: dict[Policy, int] = {"lossless": 3, "latest": 1}
"""Items that wait between two stages: enough to even out their jitter, with little memory; with
``latest`` every waiting frame is one frame time of latency."""
POLICIES: tuple[Policy, ...] = tuple(CAPACITY)


def policy_of(asked: Policy | None, *, live: bool) -> Policy:
    """The policy that is asked for, else the one that suits the source."""
    policy = asked or ("latest" if live else "lossless")
    if policy not in POLICIES:
        raise unknown_name_error("policy", policy, POLICIES)
    return policy


class MailboxClosed(Exception):  # noqa: N818 - a signal between threads, not a failure
    """The other end is gone: nothing can be put, or nothing is left to get."""


class Mailbox(Generic[T]):
    """A bounded queue of items; no polling, no time-outs.

    ``lossless``: `put` waits until there is room. ``latest``: `put` never waits; a full box gives
    up its oldest item, so that whoever is slow sees the newest.
    """

    def __init__(
        self,
        capacity: int,
        *,
        policy: Policy = "lossless",
        changed: threading.Condition | None = None,
    ) -> None:
        """An open, empty box; those that share ``changed`` can be waited for together."""
        if capacity < 1 or policy not in POLICIES:
            raise ValueError(f"a mailbox of capacity {capacity}, policy {policy!r}")
        self.capacity = capacity
        self.policy = policy
        self._items: deque[T] = deque()
        self._changed = changed or threading.Condition()
        self._closed = False
        self._error: BaseException | None = None

    @property
    def error(self) -> BaseException | None:
        """What `close` was first told, or None."""
        return self._error

    @property
    def closed(self) -> bool:
        """Whether `close` was called; items may be left."""
        return self._closed

    @property
    def has_room(self) -> bool:
        """Whether `put` returns at once."""
        return self._closed or self.policy == "latest" or not self._is_full()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> T | None:
        """Add an item; returns the one that was dropped for it, if any.

        Raises MailboxClosed where the box is closed, also while waiting.
        """
        with self._changed:
            while not self._closed and self._is_full() and self.policy == "lossless":
                self._changed.wait()
            if self._closed:
                raise MailboxClosed
            dropped = self._items.popleft() if self._is_full() else None
            self._items.append(item)
            self._changed.notify_all()
            return dropped

    def get(self) -> T:
        """Take the oldest item; waits for one, and raises MailboxClosed where none can come."""
        with self._changed:
            while not self._closed and not self._items:
                self._changed.wait()
            if not self._items:
                raise MailboxClosed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def __iter__(self) -> Iterator[T]:
        """Items until the box is closed and empty."""
        while True:
            try:
                yield self.get()
            except MailboxClosed:
                return

    def close(self, error: BaseException | None = None, *, drop: bool = False) -> None:
        """Wake both ends; what is inside can still be taken, unless it is to ``drop``.

        ``error`` is why nothing follows; again with one after without makes it an error.
        """
        with self._changed:
            self._closed = True
            self._error = self._error or error
            if drop:
                self._items.clear()
            self._changed.notify_all()

    def _is_full(self) -> bool:
        return len(self._items) >= self.capacity


class RoundRobin(Generic[T]):
    """Takes from several boxes, one item each in turn, so that none starves another.

    A box whose turn comes while it is empty, or while what follows it is stalled, loses that turn
    only: nobody waits for it.
    """

    def __init__(
        self,
        boxes: Sequence[Mailbox[T]],
        *,
        changed: threading.Condition,
        ready: Callable[[int], bool] = lambda number: True,
        on_end: Callable[[int], None] = lambda number: None,
    ) -> None:
        """Begin with the first of boxes that share ``changed``.

        ``ready`` says whether an item of a box can be used now, asked under the condition after
        each change. ``on_end`` is called once for each box, when it is closed and empty, by whoever
        iterates.
        """
        self._boxes = boxes
        self._changed = changed
        self._ready = ready
        self._on_end = on_end
        self._running = list(range(len(boxes)))
        self._turn = 0

    def __iter__(self) -> Iterator[tuple[int, T]]:
        """(number of the box, item) until all boxes are closed and empty."""
        while self._running:
            taken: list[tuple[int, T]] = []
            with self._changed:
                ended = [n for n in self._running if self._boxes[n].closed and not self._boxes[n]]
                number = self._next()
                if number is not None:
                    taken.append((number, self._boxes[number].get()))
                elif not ended:
                    self._changed.wait()
            for number in ended:
                self._running.remove(number)
                self._on_end(number)
            if taken:
                yield taken.pop()  # popped: not to be kept alive while waiting for the next

    def _next(self) -> int | None:
        """The box whose turn it is, or None while nothing can be taken."""
        total = len(self._boxes)
        for number in ((self._turn + step) % total for step in range(total)):
            if number in self._running and len(self._boxes[number]) and self._ready(number):
                self._turn = (number + 1) % total
                return number
        return None
