"""Timing kernels: graphs of many launches between two events, over more memory than caches hold."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.graph import CaptureRefusedError, capture
from segedge.cuda.runtime.program import Launcher

Work = Callable[[Launcher], None]
"""Enqueues one thing to be timed."""
LAUNCHES = 32
"""Of the same work in one graph, at least."""
ROUND_US = 5_000.0
"""A timed round lasts about this long, so that starting it does not count."""


class Clock:
    """One stream on which everything is timed."""

    def __init__(self, device: Device, *, rounds: int = 7) -> None:
        """Make stream and events.

        Args:
            device: The GPU.
            rounds: Each figure is the median over this many.
        """
        self._device = device
        self._rounds = rounds
        self._start, self._end = device.event(), device.event()
        self.stream = device.stream()
        self.launcher = device.programs.launcher(self.stream)
        self.notes: list[str] = []

    def microseconds(self, works: Sequence[Work]) -> float:
        """Median of `round_microseconds`."""
        return statistics.median(self.round_microseconds(works))

    def round_microseconds(self, works: Sequence[Work]) -> list[float]:
        """Time of one of the works, round by round.

        They are done in turn; the first run of each is left out.
        """
        for work in works:
            work(self.launcher)
        self.stream.sync()
        turns = [*works] * -(-LAUNCHES // len(works))
        play, close = self._player(turns)
        try:
            play()
            once = self._timed(play, 1)
            count = max(1, min(1000, int(ROUND_US / max(once, 1.0))))
            found = [self._timed(play, count) for _ in range(self._rounds)]
        finally:
            close()
        return [value / len(turns) for value in found]

    def _player(self, turns: Sequence[Work]) -> tuple[Callable[[], None], Callable[[], None]]:
        """What enqueues all turns, as one graph where possible, and what frees it."""

        def plain() -> None:
            for work in turns:
                work(self.launcher)

        try:
            graph = capture(self.stream, plain)
        except CaptureRefusedError as error:
            self.notes.append(f"no graph, launched one by one: {error}")
            return plain, lambda: None
        return lambda: graph.launch(self.stream), graph.close

    def _timed(self, play: Callable[[], None], count: int) -> float:
        """Microseconds of one play."""
        self.stream.record(self._start)
        for _ in range(count):
            play()
        self.stream.record(self._end)
        self._end.sync()
        return float(self._end - self._start) * 1e3 / count


def copy_bandwidth(device: Device, clock: Clock, size_bytes: int) -> float:
    """Bytes a second that a copy inside the GPU's memory reads and writes together."""
    source, target = (device.empty((size_bytes,), np.uint8) for _ in range(2))
    device.fill(source.pointer, 1, size_bytes, clock.stream)

    def work(_: Launcher) -> None:
        device.copy(target, source, clock.stream)

    return 2 * size_bytes / (clock.microseconds([work]) * 1e-6)


def cache_bytes(device: Device) -> int:
    """Size of the GPU's second-level cache; a guess on the high side where it is not told."""
    size: Any = getattr(device.core.properties, "l2_cache_size", 0)
    return int(size) or 64 << 20


def upload(device: Device, values: np.ndarray, target: Any, stream: Any) -> Any:
    """Fill an array of the GPU, whose rows may lie apart, from the CPU; waits."""
    staged = device.pinned(values.shape, values.dtype)
    staged.array()[...] = values
    device.copy(target, staged, stream)
    stream.sync()
    return target
