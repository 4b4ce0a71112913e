"""Slots of one frame size, lent out for as long as somebody looks at their results.

A result's arrays lie in its slot's memory, so nothing is copied to hand them out. The slot comes
back when the last of them dies. In a pipeline a few slots go round; whoever hoards results gets
further slots, which are freed when they come back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from segedge.cuda.plan import DeviceNetwork
from segedge.cuda.slot import Slot

SLOTS_KEPT = 8
"""Slots of one frame size that are kept; further ones launch plainly and are freed after use."""


@dataclass(frozen=True)
class Lane:
    """A stream and the network with the scratch memory that belongs to it.

    Slots of one lane follow each other; lanes run at the same time.
    """

    network: DeviceNetwork
    stream: Any


class Lease:
    """A slot in use; when the last reference dies, it goes back."""

    __slots__ = ("_pool", "kept", "slot")

    def __init__(self, slot: Slot, pool: SlotPool) -> None:
        """Made by `SlotPool.take`."""
        self.slot = slot
        self._pool = pool
        self.kept: Any = None
        """What the frame's copies still read."""

    def __del__(self) -> None:
        self._pool.give_back(self.slot, self.kept)


class SlotPool:
    """Slots of one plan. One thread takes; any may drop leases."""

    def __init__(self, lanes: Iterable[Lane], make: Callable[[Lane, bool], Slot]) -> None:
        """Start empty; slots run on the lanes in turn.

        ``make`` makes one on a lane; its flag says whether the slot will be kept.
        """
        self._lanes = _forever(tuple(lanes))
        self._make = make
        self._kept: list[Slot] = []
        # deque's append and popleft are atomic; a lock would deadlock when the garbage collector
        # ends a lease inside it.
        self._idle: deque[tuple[Slot, Any]] = deque()
        self._closed = False

    def take(self) -> Lease:
        """A slot that nobody uses and whose last frame is done.

        Raises:
            DeviceError: Not enough memory for another slot.
        """
        slot = self._idle_slot()
        if slot is None:
            keep = len(self._kept) < SLOTS_KEPT
            slot = self._make(next(self._lanes), keep)
            if keep:
                self._kept.append(slot)
        return Lease(slot, self)

    def _idle_slot(self) -> Slot | None:
        """The slot that has been idle for longest, the surplus ones closed on the way."""
        found: Slot | None = None
        for _ in range(len(self._idle)):
            slot, kept = self._idle.popleft()
            slot.wait()  # done long ago, as a rule
            del kept
            if slot not in self._kept:
                slot.close()
            elif found is None:
                found = slot
            else:
                self._idle.append((slot, None))
        return found

    def give_back(self, slot: Slot, kept: Any) -> None:
        """Called by the lease, in whatever thread it dies."""
        self._idle.append((slot, kept))
        if self._closed:
            self.close()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The kept slots."""
        return tuple(self._kept)

    def close(self) -> None:
        """Free the idle slots now and the others when they come back."""
        self._closed = True
        while True:
            try:
                slot, _ = self._idle.popleft()
            except IndexError:
                return
            slot.wait()
            slot.close()


def _forever(lanes: tuple[Lane, ...]) -> Iterator[Lane]:
    while True:
        yield from lanes
