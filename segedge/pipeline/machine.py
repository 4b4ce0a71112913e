"""What a run costs the machine: processor, memory and, where the driver answers, the GPU."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segedge.pipeline.gpu_meter import GpuMeter

_MEGABYTE = 1e6


class Machine:
    """Figures of this process and of its GPU since the last question. Not thread-safe."""

    def __init__(
        self,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        cpu_seconds: Callable[[], float] | None = None,
        gpu: GpuMeter | None = None,
    ) -> None:
        """Begin to count; None asks the system for its processor time, and looks for a GPU."""
        self._clock_ns = clock_ns
        self._cpu_seconds = cpu_seconds or _cpu_seconds
        self._gpu = gpu or GpuMeter.find()
        self._start = self._last = (self._clock_ns(), self._cpu_seconds())
        self._seen: dict[str, list[float]] = {}

    def sample(self) -> dict[str, Any]:
        """``process`` and ``gpu`` (None without one), in plain types."""
        now = (self._clock_ns(), self._cpu_seconds())
        process = {"cpu_percent": _percent(self._last, now), "memory_mb": memory_mb()}
        self._last = now
        gpu = self._gpu.read()
        for name, value in {**process, **{f"gpu {key}": v for key, v in gpu.items()}}.items():
            if value is not None:
                # [sum, count, highest]: constant memory however long the run
                entry = self._seen.setdefault(name, [0.0, 0, value])
                entry[0], entry[1], entry[2] = entry[0] + value, entry[1] + 1, max(entry[2], value)
        return {"process": process, "gpu": gpu or None}

    def summary(self) -> dict[str, Any]:
        """Over the whole run: mean and highest value of everything, and the peak of memory."""
        now = (self._clock_ns(), self._cpu_seconds())
        process = {
            "cpu_percent": _percent(self._start, now),
            "cpu_seconds": round(now[1] - self._start[1], 3),
            "memory_mb": memory_mb(),
            "peak_memory_mb": _peak_memory_mb(),
            "processors": len(os.sched_getaffinity(0)),
        }
        gpu = {
            name.removeprefix("gpu "): {"mean": round(total / count, 2), "max": highest}
            for name, (total, count, highest) in self._seen.items()
            if name.startswith("gpu ")
        }
        return {"process": process, "gpu": gpu or None}


def _percent(before: tuple[int, float], after: tuple[int, float]) -> float:
    """Processor time over time, in percent of one processor: 200 is two of them busy."""
    seconds = (after[0] - before[0]) / 1e9
    return round(100.0 * (after[1] - before[1]) / seconds, 1) if seconds > 0 else 0.0


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def memory_mb() -> float | None:
    """Resident memory of this process in 10^6 bytes; None where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE, 1)


def _peak_memory_mb() -> float:
    """Linux counts ``ru_maxrss`` in kibibytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MEGABYTE, 1)
