"""How many processors this process really has: what all threads and workers are counted by.

Fewer than the machine where the scheduler keeps it to some (``taskset``, cpusets), where a cgroup
gives it less time (``docker --cpus``, a Kubernetes limit), or where ``OMP_NUM_THREADS`` says so.
More threads than that are stopped in the middle of a frame: 13.5 frames a second instead of 19.9 in
a container with half a processor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_VERSION_1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


@dataclass(frozen=True)
class Processors:
    """Processors that this process may use, and what decides it."""

    count: int
    decided_by: str
    """``affinity``, ``cgroup quota of 0.5`` or ``OMP_NUM_THREADS``."""


def usable_processors() -> int:
    """Threads that can work at once here; one at least."""
    return processors().count


def processors() -> Processors:
    """The smallest of affinity, quota and ``OMP_NUM_THREADS``, as they are now."""
    limits = [Processors(_by_affinity(), "affinity")]
    if (quota := cpu_quota()) is not None:
        # A thread that has half of a processor is stopped half of the time, and others wait for it.
        limits.append(Processors(max(1, int(quota)), f"cgroup quota of {quota:.3g}"))
    # Of a list, one for each level of nested loops, the first counts.
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked):
        limits.append(Processors(int(asked), "OMP_NUM_THREADS"))
    return min(limits, key=lambda limit: limit.count)


def cpu_quota() -> float | None:
    """Processor time that cgroups leave, in processors; None where they do not limit it."""
    quotas = [quota for folder in _own_cgroups() if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _by_affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _own_cgroups() -> Iterator[Path]:
    """The folders of this process's cgroup and all around it: each may have a limit."""
    lines = []
    with suppress(OSError):
        lines = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for mount in _mounts(controllers):
            # Where a container sees its own part only, the path is the host's; the root stands.
            for inside in (Path(path.lstrip("/")), *Path(path.lstrip("/")).parents):
                yield mount / inside


def _mounts(controllers: str) -> list[Path]:
    """Where version 2 (which names no controllers) or version 1 is mounted."""
    if not controllers:
        return [_CGROUPS, _CGROUPS / "unified"]
    return [_CGROUPS / controllers, _CGROUPS / "cpu"] if "cpu" in controllers.split(",") else []


def _quota_of(folder: Path) -> float | None:
    with suppress(OSError, ValueError):  # version 2: "50000 100000", or "max 100000"
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else _ratio(int(quota), int(period))
    with suppress(OSError, ValueError):  # version 1: -1 is no limit
        return _ratio(*(int((folder / name).read_text(encoding="ascii")) for name in _VERSION_1))
    return None


def _ratio(quota: int, period: int) -> float | None:
    return quota / period if quota > 0 and period > 0 else None
