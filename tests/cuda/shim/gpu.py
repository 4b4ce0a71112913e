"""The GPU in tests: whether there is one, what to do where not, and a launcher for kernel tests."""

from __future__ import annotations

import os
import weakref
from functools import cache
from typing import Any, NoReturn

import numpy as np
import pytest

from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.program import Argument, Arguments, Extent, Kernel
from segedge.errors import SegedgeError
from segedge.machine.gpu import find_driver

REQUIRED = "SEGEDGE_REQUIRE_GPU"
"""Set to 1, a test that cannot run for want of a GPU fails: for machines that have one."""


@cache
def gpu_problem() -> str:
    """Why no kernel can run on a GPU here; empty where one can."""
    driver = find_driver()
    if driver.gpu is None:
        return f"no GPU: {driver.problem}"
    try:
        Device.open()
    except SegedgeError as error:
        return str(error).replace("\n", ";")
    return ""


def absent(reason: str) -> NoReturn:
    """Skip a GPU test, or fail it where a GPU is required."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, but {reason}", pytrace=False)
    pytest.skip(reason)


_HELD: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
"""Memory of the CPU that kernels may get addresses into, by where it starts."""


def at(array: np.ndarray) -> int:
    """Address of an array for a kernel, wherever that runs: `GpuLauncher` will know it again."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    _HELD[owner.ctypes.data] = owner
    return int(array.ctypes.data)


class GpuLauncher:
    """Runs kernels on the GPU on copies of the arrays that `at` was asked for.

    Every launch copies what its arguments point into to the GPU and back, at the same alignment and
    ending with its allocation, so that compute-sanitizer sees a read beyond the last row.
    """

    def __init__(self, device: Device) -> None:
        self.kernels: list[Kernel] = []
        self._device = device
        self._stream = device.stream()
        self._launch = device.programs.launcher(self._stream)

    def __call__(self, kernel: Kernel, grid: Extent, block: Extent, given: Arguments) -> None:
        self.kernels.append(kernel)
        copies: dict[int, _Copy] = {}
        moved = [self._translated(value, copies) for value in given]
        self._launch(kernel, grid, block, moved)
        for copy in copies.values():
            copy.back()
        self._stream.sync()

    def _translated(self, value: Argument, copies: dict[int, _Copy]) -> Argument:
        """A pointer (the only plain int that a kernel takes) on the GPU; anything else as it is."""
        if not isinstance(value, int) or value == 0:
            return value
        start, owner = _holding(value)
        if start not in copies:
            copies[start] = _Copy(owner, self._device, self._stream)
        return copies[start].pointer + value - start


def _holding(address: int) -> tuple[int, np.ndarray]:
    for start, owner in list(_HELD.items()):
        if start <= address < start + owner.nbytes:
            return start, owner
    raise AssertionError(f"the test passed {address:#x} without shim.gpu.at()")


class _Copy:
    """Memory of the CPU once more on the GPU."""

    def __init__(self, owner: np.ndarray, device: Device, stream: Any) -> None:
        shift = owner.ctypes.data % 256
        self._owner, self._device, self._stream = owner, device, stream
        self._memory = device.empty((shift + owner.nbytes,), np.uint8)
        self.pointer = self._memory.pointer + shift
        self._move(self.pointer, owner.ctypes.data)

    def back(self) -> None:
        self._move(self._owner.ctypes.data, self.pointer)

    def _move(self, target: int, source: int) -> None:
        size = self._owner.nbytes
        self._device.copy_rows((target, size), (source, size), size, 1, self._stream)
