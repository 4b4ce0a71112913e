"""The machine and the libraries that a figure belongs to; no host names, no paths."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from segedge.machine.cpu_facts import abilities, first_processor
from segedge.machine.gpu import find_driver
from segedge.machine.optional import installed_version
from segedge.machine.processors import usable_processors

LIBRARIES = (
    "segedge", "numpy", "numba", "opencv-python", "torch", "onnxruntime", "onnxruntime-gpu",
    "openvino", "tensorrt", "tensorrt_rtx_cu13_libs", "cuda-core", "av",
)  # fmt: skip
_TOLD_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_tile", "asimd", "sve")
"""What of the processor's abilities decides about speed here."""
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_BUSY_SHARE = 0.25


@dataclass(frozen=True)
class Environment:
    """Where something was measured."""

    cpu: str
    threads: int
    """Processors that this process may use."""
    processors: int
    """Processors of the machine."""
    governor: str | None
    """Frequency governor of the first processor; None where the system does not tell."""
    gpu: str | None
    driver: str
    """CUDA version that the driver supports, or why there is no GPU."""
    machine: str
    system: str
    python: str
    load_1_min: float
    """Load average of the last minute, before anything ran."""
    libraries: dict[str, str | None]
    """Distribution to version; None where it is not installed."""
    date: str
    cpu_flags: tuple[str, ...] = ()
    """Vector units of the processor, as the kernel names them."""

    @classmethod
    def capture(cls) -> Environment:
        """The environment of this process, now."""
        driver = find_driver()
        return cls(
            cpu=cpu_name(),
            threads=usable_processors(),
            processors=os.cpu_count() or 1,
            governor=_governor(),
            gpu=str(driver.gpu) if driver.gpu else None,
            driver=driver.cuda_text if driver.gpu else driver.problem,
            machine=platform.machine(),
            system=platform.platform(),
            python=platform.python_version(),
            load_1_min=round(os.getloadavg()[0], 2),
            libraries={name: installed_version(name) for name in LIBRARIES},
            date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            cpu_flags=cpu_flags(),
        )

    @property
    def was_busy(self) -> bool:
        """Whether others used more than a quarter of the machine before anything ran."""
        return self.load_1_min > _BUSY_SHARE * self.processors

    @property
    def line(self) -> str:
        """The machine in one line."""
        governor = f", governor {self.governor}" if self.governor else ""
        gpu = f"; {self.gpu}, {self.driver}" if self.gpu else ""
        return f"{self.cpu}, {self.threads} of {self.processors} threads{governor}{gpu}"


def cpu_name() -> str:
    """What the processor is called."""
    return first_processor().get("model name") or platform.processor() or "unknown"


def cpu_flags() -> tuple[str, ...]:
    """Its vector units that decide about speed here, as the kernel names them."""
    return tuple(flag for flag in _TOLD_FLAGS if flag in abilities())


def _governor() -> str | None:
    try:
        return _GOVERNOR.read_text(encoding="ascii").strip()
    except OSError:
        return None
