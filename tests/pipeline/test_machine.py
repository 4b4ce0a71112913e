"""CPU, memory and GPU figures, from fakes of NVML and of a Jetson's files."""

from __future__ import annotations

import ctypes
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from segedge.pipeline.gpu_meter import GpuMeter, jetson_reader, nvml_reader
from segedge.pipeline.machine import Machine, memory_mb


class Nvml:
    """What libnvidia-ml.so.1 does on a board; 0 is success, 3 "not supported"."""

    def __init__(self, *, no_power: bool = False, init: int = 0) -> None:
        self.no_power, self.init = no_power, init

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return self.init

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:  # noqa: N802
        device._obj.value = 7
        return 0

    def nvmlDeviceGetUtilizationRates(self, device: Any, out: Any) -> int:  # noqa: N802
        assert device.value == 7
        out._obj.gpu, out._obj.memory = 61, 5
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, out: Any) -> int:  # noqa: N802
        out._obj.total, out._obj.free, out._obj.used = 8_000_000_000, 7_000_000_000, 812_345_678
        return 0

    def nvmlDeviceGetPowerUsage(self, device: Any, out: Any) -> int:  # noqa: N802
        out._obj.value = 38_500
        return 3 if self.no_power else 0

    def nvmlDeviceGetTemperature(self, device: Any, kind: int, out: Any) -> int:  # noqa: N802
        assert kind == 0
        out._obj.value = 51
        return 0

    def nvmlDeviceGetClockInfo(self, device: Any, kind: int, out: Any) -> int:  # noqa: N802
        assert kind == 1, "the clock of the SMs"
        out._obj.value = 1410
        return 0


def test_nvml() -> None:
    read = nvml_reader(Nvml())
    assert read is not None
    assert read() == {
        "load_percent": 61.0, "memory_mb": 812.3, "power_w": 38.5, "temperature_c": 51.0,
        "clock_mhz": 1410.0,
    }  # fmt: skip


def test_a_board_without_a_figure_and_a_driver_without_a_gpu() -> None:
    read = nvml_reader(Nvml(no_power=True))
    assert read is not None
    assert "power_w" not in read()
    assert nvml_reader(Nvml(init=9)) is None
    assert nvml_reader(ctypes.CDLL(None)) is None  # a library without these functions


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="ascii")


@pytest.mark.parametrize(
    "load", ["sys/devices/gpu.0/load", "sys/devices/platform/bus@0/17000000.gpu/load"]
)
def test_a_jetson(tmp_path: Path, load: str) -> None:
    write(tmp_path / load, "437")
    rails = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    for number, name, millivolts, milliamperes in (
        (1, "VDD_CPU", 5000, 100), (2, "VDD_IN", 19_500, 512),
    ):  # fmt: skip
        write(rails / f"in{number}_label", name)
        write(rails / f"in{number}_input", str(millivolts))
        write(rails / f"curr{number}_input", str(milliamperes))
    read = jetson_reader(tmp_path)
    assert read is not None
    assert read() == {"load_percent": 43.7, "power_w": 9.984}


def test_a_jetson_that_goes_silent_is_not_asked_again(tmp_path: Path) -> None:
    load = tmp_path / "sys/devices/gpu.0/load"
    write(load, "100")
    read = jetson_reader(tmp_path)
    assert read is not None
    meter = GpuMeter(read)
    assert meter.read() == {"load_percent": 10.0}
    load.write_text("nonsense")
    assert meter.read() == {}
    write(load, "100")
    assert meter.read() == {}


def test_no_gpu(tmp_path: Path) -> None:
    assert jetson_reader(tmp_path) is None


def test_machine() -> None:
    """CPU time over time, since the last question and over the run; means and maxima."""
    seconds, cpu = count(0), iter([0.0, 1.0, 1.5, 3.0])
    loads = iter([{"load_percent": 20.0}, {"load_percent": 60.0}])
    machine = Machine(
        clock_ns=lambda: next(seconds) * 10**9,
        cpu_seconds=lambda: next(cpu),
        gpu=GpuMeter(lambda: next(loads)),
    )
    assert machine.sample()["process"]["cpu_percent"] == 100.0
    assert machine.sample()["process"]["cpu_percent"] == 50.0
    summary = machine.summary()
    assert summary["process"]["cpu_percent"] == 100.0  # 3 s of work in 3 s
    assert summary["process"]["cpu_seconds"] == 3.0
    assert summary["gpu"] == {"load_percent": {"mean": 40.0, "max": 60.0}}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
def test_memory_is_this_process_s() -> None:
    before = memory_mb()
    block = bytearray(b"x" * 50_000_000)
    after = memory_mb()
    assert before is not None
    assert after is not None
    assert 40 < after - before < 80, len(block)
