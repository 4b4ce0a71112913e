"""Mailbox: a bounded queue between two threads that can be closed from either end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

Policy = Literal["lossless", "latest"]
POLICIES: tuple[Policy, ...] = ("lossless", "latest")


class MailboxClosed(Exception):  # noqa: N818 - a signal between threads, not a failure
    """The other end is gone: nothing can be put, or nothing is left to get."""


class Mailbox(Generic[T]):
    """A bounded queue of items; no polling, no time-outs.

    ``lossless``: `put` waits until there is room. ``latest``: `put` never waits; a full box gives
    up its oldest item, so that whoever is slow sees the newest.
    """

    def __init__(self, capacity: int, *, policy: Policy = "lossless") -> None:
        """An open, empty box.

        Raises:
            ValueError: The capacity is not positive, or the policy is unknown.
        """
        if capacity < 1 or policy not in POLICIES:
            raise ValueError(f"a mailbox of capacity {capacity}, policy {policy!r}")
        self.capacity = capacity
        self.policy = policy
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None

    @property
    def error(self) -> BaseException | None:
        """What `close` was first told, or None."""
        return self._error

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> T | None:
        """Add an item.

        Returns:
            The item that was dropped for it (``latest`` only), else None.

        Raises:
            MailboxClosed: The box is closed, also while waiting.
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
        """Take the oldest item; waits for one.

        Raises:
            MailboxClosed: The box is closed and nothing is left in it.
        """
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

    def close(self, error: BaseException | None = None) -> None:
        """Wake both ends; again with an error after without one makes it an error.

        Args:
            error: None lets the items inside be taken; an error throws them away.
        """
        with self._changed:
            self._closed = True
            if error is not None:
                self._error = self._error or error
                self._items.clear()
            self._changed.notify_all()

    def _is_full(self) -> bool:
        return len(self._items) >= self.capacity
