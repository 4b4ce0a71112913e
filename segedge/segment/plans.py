"""Plans: tables by frame size, those that were not used for the longest let go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from segedge.card.geometry import Size

Plan = TypeVar("Plan")

MOST = 4
"""Frame sizes whose tables are kept: a folder of mixed images does not grow memory."""


class Plans(Generic[Plan]):
    """What is made once for each frame size. Safe from several threads."""

    def __init__(self, make: Callable[[Size], Plan], most: int = MOST) -> None:
        """Begin with none."""
        self._make, self._most = make, most
        self._plans: OrderedDict[Size, Plan] = OrderedDict()
        self._lock = Lock()

    def of(self, size: Size) -> Plan:
        """That of a frame size, height and width."""
        with self._lock:
            plan = self._plans.get(size)
            if plan is None:
                plan = self._plans[size] = self._make(size)
                if len(self._plans) > self._most:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(size)
            return plan

    def clear(self) -> None:
        """Let all go."""
        with self._lock:
            self._plans.clear()
