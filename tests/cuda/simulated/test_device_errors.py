"""What the device layer says when the machine is not as it should be."""

from __future__ import annotations

import numpy as np
import pytest
from driver.simulated import Control, run_simulated

from segedge.cuda.foreign import foreign_stream, stream_handle
from segedge.cuda.runtime.device import Device
from segedge.errors import DeviceError, UsageError

OPEN = "from segedge.cuda.runtime.device import Device\nDevice.open()"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"driver": 12080}, ["too old", "CUDA 12.8", "CUDA 13.0+", "segedge[cuda12]"]),
        ({"init": 803}, ["needs an NVIDIA GPU", "reboot after an update (code 803)"]),
        ({"init": 100}, ["needs an NVIDIA GPU", "finds no GPU (code 100)"]),
    ],
)
def test_no_use_of_this_machine(settings: dict[str, int], words: list[str]) -> None:
    said = run_simulated(OPEN, **settings).stderr
    assert "DeviceError" in said
    for word in words:
        assert word in said


def test_out_of_memory(sim: Control) -> None:
    sim.set("memory_bytes", 9_000_000)
    device = Device.open()
    held = device.empty((6_000_000,), np.uint8)
    with pytest.raises(DeviceError) as caught:
        device.empty((4_000_000,), np.uint8)
    facts = caught.value.facts
    assert facts["needed"] == "4.0 MB"
    assert facts["free"] == "3.0 MB of 9.0 MB"
    assert held.nbytes == 6_000_000


def test_streams_of_nobody_and_of_others() -> None:
    device = Device.open()
    with pytest.raises(DeviceError, match="none of this process"):
        foreign_stream(12345, device)
    with pytest.raises(UsageError, match="takes a CUDA stream"):
        stream_handle("mine")


def test_a_stream_of_another_context() -> None:
    """As ``pycuda.autoinit`` makes one."""
    from cuda.bindings import driver as cu

    device = Device.open()
    error, other = cu.cuCtxCreate(None, 0, device.index)
    assert int(error) == 0
    error, stream = cu.cuStreamCreate(1)
    assert int(error) == 0
    cu.cuCtxPopCurrent()
    with pytest.raises(DeviceError) as caught:
        foreign_stream(int(stream), device)
    assert "another CUDA context" in caught.value.headline
    assert "pycuda.autoprimaryctx" in (caught.value.fix or "")
    cu.cuStreamDestroy(stream)
    cu.cuCtxDestroy(other)


def test_an_array_of_another_gpu() -> None:
    code = """
import numpy as np
from cuda.bindings import driver as cu
from segedge.cuda.runtime.device import Device
from segedge.cuda.foreign import device_frame
first, second = Device.open(0), Device.open(1)
array = second.empty((4, 5, 3), np.uint8)
device_frame(array, first)
"""
    said = run_simulated(code, devices=2).stderr
    assert "the frame lies on another GPU" in said
    assert "GPU 1" in said
