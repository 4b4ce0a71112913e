"""The simulated driver does what cuda-core expects of a driver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver as cu
from cuda.core import Device, EventOptions, LegacyPinnedMemoryResource, Stream
from driver.simulated import Control
from shim.cases import a_card

from segedge import reference
from segedge.cuda.preprocess import Preprocess
from segedge.cuda.program import Plane, Programs
from segedge.geometry import Geometry, Size

RNG = np.random.default_rng(0)
FRAME, NETWORK = Size(20, 26), Size(16, 24)
CARD, GEOMETRY = a_card(2), Geometry.fit(FRAME, NETWORK, "stretch")
PREPROCESS = Preprocess(CARD, GEOMETRY)


@pytest.fixture
def device() -> Device:
    device = Device(0)
    device.set_current()
    return device


@pytest.fixture
def stream(device: Device) -> Any:
    stream = device.create_stream()
    yield stream
    stream.close()


def pinned(size: int, stream: Stream) -> Any:
    """Pinned memory and its bytes."""
    buffer = LegacyPinnedMemoryResource().allocate(size, stream=stream)
    return buffer, np.from_dlpack(buffer).view(np.uint8)


def ok(result: Any) -> Any:
    error, *values = result
    assert error == cu.CUresult.CUDA_SUCCESS, error
    return values[0] if len(values) == 1 else tuple(values)


def test_device(device: Device):
    assert device.name == "Simulated GPU"
    assert device.arch == "87"
    assert not device.properties.integrated
    assert device.properties.multiprocessor_count == 16


def test_copies_and_events(stream: Stream, device: Device):
    there, back = pinned(1 << 12, stream), pinned(1 << 12, stream)
    buffer = device.allocate(1 << 12, stream=stream)
    there[1][:] = RNG.integers(0, 256, 1 << 12)
    start = stream.record(options=EventOptions(timing_enabled=True))
    there[0].copy_to(buffer, stream=stream)
    buffer.copy_to(back[0], stream=stream)
    end = stream.record(options=EventOptions(timing_enabled=True))
    assert not np.array_equal(back[1], there[1])
    end.sync()
    assert np.array_equal(back[1], there[1])
    assert 0 <= end - start < 1000


class Job:
    """A frame in pinned memory, preprocessed on the device, and the tensor in pinned memory."""

    def __init__(self, device: Device, stream: Stream) -> None:
        self.pixels = FRAME.height * FRAME.width * 3
        self.floats = int(np.prod(PREPROCESS.shape)) * 4
        self.frame, bytes_in = pinned(self.pixels, stream)
        self.image = bytes_in.reshape(FRAME.height, FRAME.width, 3)
        self.tensor, bytes_out = pinned(self.floats, stream)
        self.result = bytes_out.view(np.float32).reshape(PREPROCESS.shape)
        self.device_frame = device.allocate(self.pixels, stream=stream)
        self.device_tensor = device.allocate(self.floats, stream=stream)
        self.programs = Programs("sm_87")

    def fill(self) -> np.ndarray:
        self.image[:] = RNG.integers(0, 256, self.image.shape)
        return reference.preprocess(self.image.copy(), CARD, GEOMETRY)

    def enqueue(self, stream: Any) -> None:
        self.frame.copy_to(self.device_frame, stream=stream)
        plane = Plane(int(self.device_frame.handle), FRAME.width * 3)
        PREPROCESS.launch(self.programs.launcher(stream), plane, int(self.device_tensor.handle))
        self.device_tensor.copy_to(self.tensor, stream=stream)


def test_a_kernel(stream: Stream, device: Device, sim: Control):
    job = Job(device, stream)
    expected = job.fill()
    job.enqueue(stream)
    assert sim.counter("kernels") == 0
    assert np.all(job.result.view(np.uint8) == 0xA5), "work ran before anybody waited"
    stream.sync()
    np.testing.assert_allclose(job.result[0], expected.reshape(job.result[0].shape), atol=1e-4)
    assert sim.counter("kernels") == sim.counter("launches") == 1


def test_at_once(stream: Stream, device: Device, sim: Control):
    sim.set("defer", 0)
    job = Job(device, stream)
    expected = job.fill()
    job.enqueue(stream)
    np.testing.assert_allclose(job.result[0], expected.reshape(job.result[0].shape), atol=1e-4)
