"""What else the machine did while something was measured: others' work, clocks, power."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segedge.pipeline.gpu_meter import GpuMeter

_EVERY_SECONDS = 0.25
_SHORTEST_SECONDS = 0.2
"""Below this the kernel's ticks of 10 ms say nothing about shares."""
_MOVED = 0.10
_BUSY = 0.10
_STOLEN = 0.02


@dataclass(frozen=True)
class Spread:
    """Lowest, mean and highest of some readings."""

    low: float
    mean: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one reading."""
        return cls(min(values), sum(values) / len(values), max(values))

    def __str__(self) -> str:
        return f"{self.low:.0f} .. {self.high:.0f}" if self.moved else f"{self.mean:.0f}"

    @property
    def moved(self) -> bool:
        """Whether the lowest is more than a tenth below the highest."""
        return self.low < (1.0 - _MOVED) * self.high


@dataclass(frozen=True)
class Observed:
    """The machine over a time."""

    seconds: float
    own_percent: float
    """Processor time of the measured process, in percent of one processor."""
    others_percent: float | None
    """That of everything else on the processors that it may use; None: unknown, or too short."""
    stolen_percent: float | None
    """Time that the hypervisor gave to others, likewise."""
    threads: int
    """Processors that the process may use."""
    cpu_mhz: Spread | None = None
    """Clock of these processors; None where the system does not tell."""
    gpu: Mapping[str, Spread] = field(default_factory=dict)
    """What NVML or a Jetson's files answer of ``power_w``, ``clock_mhz``, ``temperature_c``,
    ``load_percent``, ``memory_mb``."""

    @classmethod
    def join(cls, parts: Sequence[Observed]) -> Observed:
        """Several times as one; shares are weighted by their length."""
        gpu = {name for part in parts for name in part.gpu}
        return cls(
            seconds=sum(part.seconds for part in parts),
            own_percent=_weighted((part.own_percent, part.seconds) for part in parts) or 0.0,
            others_percent=_weighted((part.others_percent, part.seconds) for part in parts),
            stolen_percent=_weighted((part.stolen_percent, part.seconds) for part in parts),
            threads=parts[0].threads,
            cpu_mhz=_joined([part.cpu_mhz for part in parts]),
            gpu={
                name: spread
                for name in sorted(gpu)
                if (spread := _joined([part.gpu.get(name) for part in parts])) is not None
            },
        )

    @property
    def was_busy(self) -> bool:
        """Whether other programs took more than a tenth of the processors."""
        return self.others_percent is not None and self.others_percent > 100 * _BUSY * self.threads

    @property
    def was_robbed(self) -> bool:
        """Whether the hypervisor took more than a fiftieth of the processors."""
        return (self.stolen_percent or 0.0) > 100 * _STOLEN * self.threads


def doubts(seen: Mapping[str, Observed]) -> list[str]:
    """What the machine did that makes figures doubtful: what was seen, by what was measured."""
    found = []
    busy = {n: o.others_percent or 0.0 for n, o in seen.items() if o.was_busy}
    if busy:
        most = f"up to {max(busy.values()):.0f} % of a processor"
        found.append(f"other programs took {most} during {_some(busy, seen)}")
    robbed = {n: o.stolen_percent or 0.0 for n, o in seen.items() if o.was_robbed}
    if robbed:
        most = f"up to {max(robbed.values()):.0f} % of a processor"
        found.append(f"the hypervisor took {most} away during {_some(robbed, seen)}")
    for title, clocks in (
        ("the processors' clock", {n: o.cpu_mhz for n, o in seen.items()}),
        ("the GPU's clock", {n: o.gpu.get("clock_mhz") for n, o in seen.items()}),
    ):
        known = {name: clock for name, clock in clocks.items() if clock is not None}
        low = min((clock.low for clock in known.values()), default=0.0)
        high = max((clock.high for clock in known.values()), default=0.0)
        if known and Spread(low, low, high).moved:
            found.append(f"{title} moved between {low:.0f} and {high:.0f} MHz")
    return found


def _some(names: Mapping[str, float], everything: Mapping[str, Observed]) -> str:
    if len(names) == len(everything):
        return "all of it"
    shown = list(names)
    more = " ..." if len(shown) > 3 else ""
    return f"{len(shown)} of {len(everything)}: {'; '.join(shown[:3])}{more}"


def _weighted(pairs: Iterable[tuple[float | None, float]]) -> float | None:
    known = [(value, seconds) for value, seconds in pairs if value is not None]
    total = sum(seconds for _, seconds in known)
    return round(sum(v * seconds for v, seconds in known) / total, 1) if total > 0 else None


def _joined(spreads: Sequence[Spread | None]) -> Spread | None:
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return None
    mean = sum(spread.mean for spread in known) / len(known)
    return Spread(min(s.low for s in known), mean, max(s.high for s in known))


class Watch:
    """Watches from its making until `end`; `tick` it now and then. Not thread-safe."""

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        gpu: GpuMeter | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        own_seconds: Callable[[], float] | None = None,
    ) -> None:
        """Begin; ``root`` holds ``proc`` and ``sys``, ``own_seconds`` asks this process's."""
        self._root = root
        self._gpu = gpu or GpuMeter.find(root)
        self._clock_ns = clock_ns
        self._own_seconds = own_seconds or _own_seconds
        self._processors = sorted(os.sched_getaffinity(0))
        self._mhz: list[float] = []
        self._readings: dict[str, list[float]] = {}
        self._read()
        self._start = (clock_ns(), self._own_seconds(), processor_seconds(root, self._processors))

    def tick(self) -> None:
        """Read clocks and the GPU, at most four times a second."""
        if self._clock_ns() - self._last_ns >= _EVERY_SECONDS * 1e9:
            self._read()

    def end(self) -> Observed:
        """What was seen since the beginning."""
        now_ns, own, all_of_it = (
            self._clock_ns(), self._own_seconds(), processor_seconds(self._root, self._processors)
        )  # fmt: skip
        self._read()
        seconds = max(1e-9, (now_ns - self._start[0]) / 1e9)
        own_seconds = own - self._start[1]
        others, stolen = None, None
        if all_of_it and self._start[2] and seconds >= _SHORTEST_SECONDS:
            busy, gone = (b - a for a, b in zip(self._start[2], all_of_it, strict=True))
            others = round(100 * max(0.0, busy - own_seconds) / seconds, 1)
            stolen = round(100 * gone / seconds, 1)
        return Observed(
            seconds=round(seconds, 3),
            own_percent=round(100 * own_seconds / seconds, 1),
            others_percent=others,
            stolen_percent=stolen,
            threads=len(self._processors),
            cpu_mhz=Spread.of(self._mhz) if self._mhz else None,
            gpu={name: Spread.of(values) for name, values in self._readings.items()},
        )

    def _read(self) -> None:
        self._last_ns = self._clock_ns()
        mhz = processor_mhz(self._root, self._processors)
        self._mhz += [mhz] if mhz is not None else []
        for name, value in self._gpu.read().items():
            self._readings.setdefault(name, []).append(value)


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def processor_seconds(root: Path, processors: Sequence[int]) -> tuple[float, float] | None:
    """Busy and stolen seconds of some processors since the start of the machine.

    From ``/proc/stat``, man proc_stat(5); None where it does not tell.
    """
    try:
        lines = (root / "proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    wanted = {f"cpu{number}" for number in processors}
    busy = stolen = 0
    for name, *fields in map(str.split, lines):
        if name in wanted:
            user, nice, system, _idle, _wait, interrupts, soft, steal = map(int, fields[:8])
            busy += user + nice + system + interrupts + soft
            stolen += steal
    ticks = os.sysconf("SC_CLK_TCK")
    return busy / ticks, stolen / ticks


def processor_mhz(root: Path, processors: Sequence[int]) -> float | None:
    """Mean clock of some processors now; None where the system does not tell."""
    folder = root / "sys/devices/system/cpu"
    files = [folder / f"cpu{number}/cpufreq/scaling_cur_freq" for number in processors]
    try:
        values = [float(path.read_text(encoding="ascii")) / 1e3 for path in files if path.is_file()]
        if not values:
            facts = (root / "proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            lines = [line for line in facts if line.startswith("cpu MHz")]
            values = [float(line.partition(":")[2]) for line in lines]
    except (OSError, ValueError):
        return None
    return sum(values) / len(values) if values else None
