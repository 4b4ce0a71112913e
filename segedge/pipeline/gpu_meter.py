"""GPU load, memory, power and temperature: from NVML, or from the files of a Jetson.

NVML is part of the driver (``libnvidia-ml.so.1``), so ctypes needs no package. Jetsons have no
NVML before JetPack 7; their kernel has the same figures in files, where tegrastats reads them.
Functions: https://docs.nvidia.com/deploy/nvml-api/. Files: the "Power Monitor" chapters of the
Jetson Linux Developer Guide (ina3221), and ``/sys/devices/.../load`` in tenths of a percent.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

Reading = dict[str, float]
"""``load_percent``, ``memory_mb``, ``power_w``, ``temperature_c``, ``clock_mhz``: those that
answer."""

_LOADS = ("sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load")
_LOAD_PATTERNS = ("sys/devices/platform/*/*.gpu/load", "sys/devices/platform/*.gpu/load")
_POWER_PATTERN = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label"
_CLOCKS = ("*gpu*", "*ga10b*", "*gv11b*", "*gp10b*", "*gb10b*")
"""Names of a Jetson's GPU among the devices whose frequency Linux steers."""
_SM_CLOCK = 1
"""``NVML_CLOCK_SM``."""
_TOTAL_POWER = ("VDD_IN", "POM_5V_IN", "SYS_VIN_TOTAL")
"""Names of the rail that feeds everything: Orin, Nano and older boards, AGX."""


class GpuMeter:
    """Asks one source of figures; a source that fails once is not asked again."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        """Ask this function."""
        self._read: Callable[[], Reading] | None = read

    @classmethod
    def find(cls, root: Path = Path("/")) -> GpuMeter:
        """NVML if the driver has it, else a Jetson's files, else nothing."""
        return cls(nvml_reader() or jetson_reader(root) or dict)

    def read(self) -> Reading:
        """The figures, empty where there are none."""
        if self._read is None:
            return {}
        try:
            return self._read()
        except (OSError, ValueError):
            self._read = None
            return {}


def jetson_reader(root: Path) -> Callable[[], Reading] | None:
    """What reads a Jetson's files below ``root``, or None where there are none."""
    loads = [root / name for name in _LOADS if (root / name).is_file()]
    loads += [path for pattern in _LOAD_PATTERNS for path in sorted(root.glob(pattern))]
    rails = {path.read_text(encoding="ascii").strip(): path for path in root.glob(_POWER_PATTERN)}
    rail = next((rails[name] for name in _TOTAL_POWER if name in rails), None)
    clocks = [
        path for n in _CLOCKS for path in sorted(root.glob(f"sys/class/devfreq/{n}/cur_freq"))
    ]
    if not loads and rail is None and not clocks:
        return None

    def read() -> Reading:
        reading: Reading = {}
        if loads:
            reading["load_percent"] = _number(loads[0]) / 10.0
        if clocks:
            reading["clock_mhz"] = _number(clocks[0]) / 1e6
        if rail is not None:
            number = rail.name.removeprefix("in").removesuffix("_label")
            volts = _number(rail.with_name(f"in{number}_input")) / 1e3
            amperes = _number(rail.with_name(f"curr{number}_input")) / 1e3
            reading["power_w"] = round(volts * amperes, 3)
        return reading

    return read


def _number(path: Path) -> float:
    return float(path.read_text(encoding="ascii").strip())


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def nvml_reader(library: Any = None) -> Callable[[], Reading] | None:
    """What asks NVML for the first GPU, or None where there is no driver or no GPU."""
    try:
        nvml = library or ctypes.CDLL("libnvidia-ml.so.1")
        device = ctypes.c_void_p()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)):
            return None
    except (OSError, AttributeError):
        return None

    clock = getattr(nvml, "nvmlDeviceGetClockInfo", None)

    def read() -> Reading:
        load, memory = _Utilization(), _Memory()
        milliwatts, celsius, megahertz = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_uint()
        reading: Reading = {}
        # Each call returns 0 for success; a board may lack some of the figures.
        if not nvml.nvmlDeviceGetUtilizationRates(device, ctypes.byref(load)):
            reading["load_percent"] = float(load.gpu)
        if not nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):
            reading["memory_mb"] = round(memory.used / 1e6, 1)
        if not nvml.nvmlDeviceGetPowerUsage(device, ctypes.byref(milliwatts)):
            reading["power_w"] = milliwatts.value / 1e3
        if not nvml.nvmlDeviceGetTemperature(device, 0, ctypes.byref(celsius)):
            reading["temperature_c"] = float(celsius.value)
        if clock and not clock(device, _SM_CLOCK, ctypes.byref(megahertz)):
            reading["clock_mhz"] = float(megahertz.value)
        return reading

    return read
