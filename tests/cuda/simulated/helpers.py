"""A job for the simulated device: a frame in pinned memory, preprocessed, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver as cu
from cuda.core import Device, LegacyPinnedMemoryResource, Stream
from shim.cases import a_card

from segedge.card.geometry import Geometry, Size
from segedge.cuda.preprocess import Preprocess
from segedge.cuda.runtime.program import Kernel, Plane, Programs
from segedge.reference import frame as reference

RNG = np.random.default_rng(0)
FRAME, NETWORK = Size(20, 26), Size(16, 24)
CARD, GEOMETRY = a_card(2), Geometry.fit(FRAME, NETWORK, "stretch")
PREPROCESS = Preprocess(CARD, GEOMETRY)
FRESH = 0xA5
Error = cu.CUresult


def ok(result: Any) -> Any:
    """The values of a driver call that must succeed."""
    error, *values = result
    assert error == cu.CUresult.CUDA_SUCCESS, error
    return values[0] if len(values) == 1 else tuple(values)


def pinned(size: int, stream: Stream) -> tuple[Any, np.ndarray]:
    """Pinned memory and its bytes."""
    buffer = LegacyPinnedMemoryResource().allocate(size, stream=stream)
    return buffer, np.from_dlpack(buffer).view(np.uint8)


@pytest.fixture
def device(no_leaks: None) -> Device:
    """By cuda-core alone."""
    device = Device(0)
    device.set_current()
    return device


class Job:
    """Memory and kernels of the job."""

    def __init__(self, device: Device, stream: Stream) -> None:
        self.frame_size = FRAME.height * FRAME.width * 3
        self.tensor_size = int(np.prod(PREPROCESS.shape)) * 4
        self.frame, bytes_in = pinned(self.frame_size, stream)
        self.image = bytes_in.reshape(FRAME.height, FRAME.width, 3)
        self.tensor, self.raw = pinned(self.tensor_size, stream)
        self.device_frame = device.allocate(self.frame_size, stream=stream)
        self.device_tensor = device.allocate(self.tensor_size, stream=stream)
        self.programs = Programs("sm_87")
        PREPROCESS.run(self._load, self._plane(), int(self.device_tensor.handle))

    def _load(self, kernel: Kernel, *_: object) -> None:
        """Not possible later, while a graph is captured."""
        self.kernel = kernel
        self.programs.get(kernel)

    def _plane(self) -> Plane:
        return Plane(int(self.device_frame.handle), FRAME.width * 3)

    def fill(self) -> None:
        """A new frame."""
        self.image[:] = RNG.integers(0, 256, self.image.shape)

    def preprocess(self, stream: Any, *, frame: int | None = None) -> None:
        plane = self._plane() if frame is None else Plane(frame, FRAME.width * 3)
        PREPROCESS.run(self.programs.launcher(stream), plane, int(self.device_tensor.handle))

    def enqueue(self, stream: Any) -> None:
        self.frame.copy_to(self.device_frame, stream=stream)
        self.preprocess(stream)
        self.device_tensor.copy_to(self.tensor, stream=stream)

    def is_right(self) -> bool:
        """Whether the tensor is that of the frame."""
        expected = reference.preprocess(self.image.copy(), CARD, GEOMETRY)
        found = self.raw.view(np.float32).reshape(PREPROCESS.shape)
        return bool(np.allclose(found, expected, atol=1e-4))

    def is_fresh(self) -> bool:
        """Whether nobody has written to the tensor yet."""
        return bool(np.all(self.raw == FRESH))

    def close(self, stream: Stream) -> None:
        for buffer in (self.frame, self.tensor, self.device_frame, self.device_tensor):
            buffer.close(stream)
