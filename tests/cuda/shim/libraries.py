"""Other CUDA libraries, each as the few things that the interop tests do with them.

A constructor says why its library cannot be used, through `ImportError` (not installed) or
`NoGpuError` (installed, but it does not reach the GPU).
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from segedge.cuda.runtime.array import DeviceArray
from segedge.cuda.runtime.device import Device


class NoGpuError(Exception):
    """The library is installed and cannot use the GPU here."""


class Library(Protocol):
    """A library whose frames go in and whose arrays come out."""

    def put(self, host: np.ndarray) -> Any:
        """A new array on the GPU, ready."""

    def stream(self) -> Any:
        """A new stream."""

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        """Enqueue a copy between two contiguous arrays on the GPU."""

    def adopt(self, array: DeviceArray, stream: Any) -> Any:
        """Our array as one of the library's, without a copy, for use on a stream."""

    def get(self, array: Any, stream: Any) -> np.ndarray:
        """On the CPU, after all that was enqueued on the stream."""


class CudaCore:
    """cuda-core itself: streams and memory, no arrays of its own. It is always there."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def put(self, host: np.ndarray) -> Any:
        array, staged = self._device.empty(host.shape, host.dtype), self._staged(host)
        stream = self.stream()
        self._device.copy(array, staged, stream)
        stream.sync()
        return array

    def _staged(self, host: np.ndarray) -> Any:
        staged = self._device.pinned(host.shape, host.dtype)
        staged.array()[...] = host
        return staged

    def stream(self) -> Any:
        return self._device.stream()

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        self._device.copy(target, source, stream)

    def adopt(self, array: DeviceArray, stream: Any) -> Any:
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView(array, stream_ptr=int(stream.handle))  # DLPack
        assert view.ptr == array.pointer
        assert tuple(view.shape) == array.shape
        return array

    def get(self, array: Any, stream: Any) -> np.ndarray:
        return self._device.download(array, stream)


class Torch:
    """PyTorch; streams are told by DLPack, its `__cuda_array_interface__` has none."""

    def __init__(self, device: Device) -> None:
        import torch

        if not torch.cuda.is_available():
            raise NoGpuError(f"torch {torch.__version__} does not reach the GPU")
        self._torch = torch

    def put(self, host: np.ndarray) -> Any:
        array = self._torch.from_numpy(host.copy()).cuda()
        self._torch.cuda.synchronize()
        return array

    def stream(self) -> Any:
        return self._torch.cuda.Stream()

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        with self._torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)

    def adopt(self, array: DeviceArray, stream: Any) -> Any:
        with self._torch.cuda.stream(stream):
            return self._torch.from_dlpack(array)

    def get(self, array: Any, stream: Any) -> np.ndarray:
        stream.synchronize()
        return np.asarray(array.cpu().numpy())


class CuPy:
    """CuPy; arrays name their stream."""

    def __init__(self, device: Device) -> None:
        import cupy

        try:
            cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise NoGpuError(f"cupy {cupy.__version__}: {error}") from error
        self._cupy = cupy

    def put(self, host: np.ndarray) -> Any:
        array = self._cupy.asarray(host)
        self._cupy.cuda.Device().synchronize()
        return array

    def stream(self) -> Any:
        return self._cupy.cuda.Stream(non_blocking=True)

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        with stream:
            target[...] = source

    def adopt(self, array: DeviceArray, stream: Any) -> Any:
        with stream:
            return self._cupy.from_dlpack(array)

    def get(self, array: Any, stream: Any) -> np.ndarray:
        stream.synchronize()
        return np.asarray(array.get())


class Numba:
    """Numba's CUDA target."""

    def __init__(self, device: Device) -> None:
        from numba import cuda

        with contextlib.suppress(ctypes.ArgumentError):
            cuda.is_available()  # the first time it looks for IPC, which is not simulated
        try:
            cuda.current_context()  # is_available() wants a compiler, too
        except cuda.CudaSupportError as error:
            raise NoGpuError(f"numba.cuda: {error}") from error
        self._cuda = cuda

    def put(self, host: np.ndarray) -> Any:
        array = self._cuda.to_device(host)
        self._cuda.synchronize()
        return array

    def stream(self) -> Any:
        return self._cuda.stream()

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        target.copy_to_device(source, stream=stream)

    def adopt(self, array: DeviceArray, stream: Any) -> Any:
        return self._cuda.as_cuda_array(array)

    def get(self, array: Any, stream: Any) -> np.ndarray:
        stream.synchronize()
        return np.asarray(array.copy_to_host())


class PyCuda:
    """PyCUDA in the primary context; it takes no stream of others, so ours joins its."""

    def __init__(self, device: Device) -> None:
        import pycuda.driver as driver

        try:
            import pycuda.autoprimaryctx  # noqa: F401
        except driver.Error as error:
            raise NoGpuError(f"pycuda: {error}") from error
        from pycuda import gpuarray

        self._driver, self._gpuarray = driver, gpuarray

    def put(self, host: np.ndarray) -> Any:
        array = self._gpuarray.to_gpu(np.ascontiguousarray(host))
        self._driver.Context.synchronize()
        return array

    def stream(self) -> Any:
        return self._driver.Stream()

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        self._driver.memcpy_dtod_async(
            int(target.gpudata), int(source.gpudata), target.nbytes, stream
        )

    def adopt(self, array: DeviceArray, stream: Any) -> Any:
        return self._gpuarray.GPUArray(
            array.shape, array.dtype, gpudata=array.pointer, base=array, strides=array.strides
        )

    def get(self, array: Any, stream: Any) -> np.ndarray:
        stream.synchronize()
        return np.asarray(array.get())


LIBRARIES: dict[str, Callable[[Device], Library]] = {
    "cuda-core": CudaCore,
    "torch": Torch,
    "cupy": CuPy,
    "numba": Numba,
    "pycuda": PyCuda,
}
"""By the name that they are installed under."""


def address_of(array: Any) -> int:
    """Where an array of any of the libraries lies on the GPU."""
    return int(array.__cuda_array_interface__["data"][0])


@contextlib.contextmanager
def busy(device: Device, stream: Any, megabytes: int) -> Iterator[None]:
    """Keep another library's stream busy with copies, so that what follows on it is late."""
    from segedge.cuda.foreign import foreign_stream

    theirs = foreign_stream(stream, device)
    memory = device.empty((2, megabytes << 20), np.uint8)
    side = memory.pointer, memory.row_bytes
    other = memory.pointer + memory.row_bytes, memory.row_bytes
    for _ in range(16):
        device.copy_rows(other, side, memory.row_bytes, 1, theirs)
    yield
    theirs.sync()  # before the memory goes
