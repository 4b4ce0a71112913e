"""Which TensorRT is taken, and what each could do on a machine."""

from __future__ import annotations

import sys
import types

import pytest

from segedge.engine import flavour as flavour_module
from segedge.engine.flavour import Flavour, flavour_order, flavour_statuses, load_flavour
from segedge.errors import BackendError, DeviceError, MissingDependencyError, UsageError
from segedge.machine import gpu as gpu_module
from segedge.machine.gpu import Driver, Gpu, find_driver, require_gpu

RTX = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, False)
H100 = Gpu("NVIDIA H100", (9, 0), 80 << 30, False)
A100 = Gpu("NVIDIA A100", (8, 0), 80 << 30, False)
ORIN = Gpu("Orin", (8, 7), 8 << 30, True)


@pytest.mark.parametrize(
    ("gpu", "tegra", "first"),
    [
        (None, False, "tensorrt_rtx"),
        (RTX, False, "tensorrt_rtx"),
        (H100, False, "tensorrt"),
        (A100, False, "tensorrt"),
        (ORIN, True, "tensorrt"),
        (None, True, "tensorrt"),
    ],
)
def test_auto_takes_what_fits(gpu: Gpu | None, tegra: bool, first: str) -> None:
    assert flavour_order(gpu, tegra=tegra)[0] == first


def test_names(rtx: Flavour) -> None:
    assert load_flavour("auto").name == "tensorrt_rtx"
    assert str(rtx) == "TensorRT-RTX 1.7.1"
    assert rtx.cuda_major == 13
    with pytest.raises(UsageError, match="did you mean 'tensorrt_rtx'"):
        load_flavour("tensort_rtx")


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavour_module, "is_importable", lambda name: False)
    with pytest.raises(MissingDependencyError) as caught:
        load_flavour("auto")
    assert "segedge[rtx]" in str(caught.value)
    with pytest.raises(MissingDependencyError, match="TensorRT is needed"):
        load_flavour("tensorrt")
    assert [status.version for status in flavour_statuses()] == [None, None]


def test_a_jetson_is_told_to_use_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavour_module, "is_importable", lambda name: False)
    monkeypatch.setattr(flavour_module.platform, "machine", lambda: "aarch64")
    with pytest.raises(MissingDependencyError) as caught:
        load_flavour("tensorrt")
    assert "--system-site-packages" in str(caught.value)


def test_an_old_tensorrt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("tensorrt")
    old.__version__ = "8.6.1.post1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    monkeypatch.setattr(flavour_module, "is_importable", lambda name: name == "tensorrt")
    with pytest.raises(BackendError, match=r"8\.6\.1\.post1 is too old"):
        load_flavour("tensorrt")


def test_a_module_of_jetpack_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("tensorrt")
    module.__version__ = "10.3.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(flavour_module, "is_importable", lambda name: name == "tensorrt")
    loaded = load_flavour("tensorrt")
    assert (str(loaded), loaded.builds_ahead, loaded.cuda_major) == ("TensorRT 10.3.0", False, None)


@pytest.mark.parametrize(
    ("driver", "can_run", "words"),
    [
        (Driver(None, None, "no NVIDIA driver: libcuda.so.1 not found"), False, "libcuda.so.1"),
        (Driver(RTX, (13, 1)), True, "builds and runs on NVIDIA GeForce RTX 4090 (sm_89)"),
        (Driver(RTX, (12, 4)), False, "the driver is for CUDA 12.4, this wheel needs CUDA 13"),
        (Driver(H100, (13, 0)), False, "NVIDIA H100 (sm_90) is not among its GPUs: sm_75"),
    ],
)
def test_status_of_rtx(rtx: Flavour, driver: Driver, can_run: bool, words: str) -> None:
    status = flavour_statuses(driver=driver)[1]
    assert (status.can_build, status.can_run) == (True, can_run)
    assert words in status.detail


def test_no_driver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_module, "_LIBRARY", "libcuda-absent.so.1")
    driver = find_driver()
    assert (driver.gpu, driver.cuda, driver.cuda_text) == (None, None, "no driver")
    with pytest.raises(DeviceError, match=r"libcuda-absent\.so\.1 not found"):
        require_gpu(purpose="running")


def test_an_old_driver_is_said_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_module, "find_driver", lambda **_: Driver(RTX, (12, 4)))
    assert require_gpu(purpose="running", cuda_major=12) == RTX
    with pytest.raises(DeviceError) as caught:
        require_gpu(purpose="running", cuda_major=13)
    assert "CUDA 12.4" in str(caught.value)
    assert "CUDA 13" in str(caught.value)
