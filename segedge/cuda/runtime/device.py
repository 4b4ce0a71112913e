"""One GPU: its context, memory, streams and events, on cuda-core.

Streams come first and explicitly: nothing here uses the default stream but allocation, which is
waited for. The primary context is used, which PyTorch, CuPy, Numba and PyCUDA share.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segedge.cuda.runtime.array import DeviceArray, HostArray
from segedge.cuda.runtime.program import Programs
from segedge.errors import DeviceError, SegedgeError
from segedge.machine.files import megabytes
from segedge.machine.gpu import Gpu, find_driver, require_gpu
from segedge.machine.optional import installed_version, require

_PURPOSE = "run CUDA kernels"
_OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"


class Device:
    """One GPU, ready for use by the calling thread."""

    def __init__(self, gpu: Gpu, core: Any) -> None:
        """Use `open`."""
        self.gpu = gpu
        self.core = core
        """The ``cuda.core.Device``."""
        self.programs = Programs(gpu.sm)
        self._library = require("cuda.core", purpose=_PURPOSE)
        self._driver = require("cuda.bindings.driver", purpose=_PURPOSE)
        self._pinned = self._library.LegacyPinnedMemoryResource()
        core.set_current()
        self._context = self._current()

    @classmethod
    def open(cls, index: int = 0) -> Device:
        """Make the primary context current of a GPU, counted within ``CUDA_VISIBLE_DEVICES``.

        Raises:
            DeviceError: No driver, no GPU, or a driver that is too old.
            MissingDependencyError: cuda-core is not installed.
        """
        gpu = require_gpu(
            purpose="the CUDA runtime", cuda_major=bindings_major(), index=index,
            older="for one of CUDA 12: pip install 'segedge[cuda12]'",
        )  # fmt: skip
        library = require("cuda.core", purpose=_PURPOSE)
        with translated("cannot open the GPU", gpu=gpu):
            core = library.Device(index)
            core.set_current()
            return cls(gpu, core)

    @property
    def index(self) -> int:
        """Which GPU."""
        return int(self.core.device_id)

    def make_current(self) -> None:
        """Make the context current in the calling thread; cheap where it is already.

        Other libraries change it: PyTorch with ``set_device``, PyCUDA with each push and pop.
        """
        if self._current() != self._context:
            self.core.set_current()

    def _current(self) -> int:
        """Address of the calling thread's context, 0 where there is none."""
        error, context = self._driver.cuCtxGetCurrent()
        return int(context) if int(error) == 0 else 0

    def memory_bytes(self) -> tuple[int, int]:
        """Free and total memory of the GPU."""
        self.make_current()
        error, free, total = self._driver.cuMemGetInfo()
        self._check(error, "cannot ask for the GPU's memory")
        return int(free), int(total)

    def stream(self) -> Any:
        """A new ``cuda.core.Stream`` that does not wait for the default stream."""
        self.make_current()
        with translated("cannot make a CUDA stream", gpu=self.gpu):
            return self.core.create_stream()

    def event(self) -> Any:
        """A new ``cuda.core.Event`` that can be timed; waiting for it yields the CPU."""
        options = self._library.EventOptions(timing_enabled=True, blocking_sync=True)
        with translated("cannot make a CUDA event", gpu=self.gpu):
            return self.core.create_event(options)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Uninitialised C-contiguous memory of the GPU."""
        kind = np.dtype(dtype)
        return DeviceArray(self._allocate(math.prod(shape) * kind.itemsize), shape, kind)

    def pitched(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Uninitialised rows of the GPU's memory, each at a multiple of 16 bytes.

        An array of one axis is contiguous.

        Raises:
            DeviceError: There is not enough.
        """
        if len(shape) == 1:
            return self.empty(shape, dtype)
        kind = np.dtype(dtype)
        pitch = -(-math.prod(shape[1:]) * kind.itemsize // 16) * 16
        return DeviceArray(self._allocate(shape[0] * pitch), shape, kind, pitch)

    def uploaded(self, table: NDArray[Any]) -> DeviceArray:
        """A copy of an array in the GPU's memory; it is there when this returns."""
        host = self.pinned(table.shape, table.dtype)
        host.array()[...] = table
        array = self.empty(table.shape, table.dtype)
        stream = self.stream()
        self.copy(array, host, stream)
        stream.sync()
        return array

    def download(self, array: DeviceArray, stream: Any) -> NDArray[Any]:
        """A fresh NumPy copy of an array, after all that was enqueued on the stream before."""
        host = self.pinned(array.shape, array.dtype)
        self.copy(host, array, stream)
        stream.sync()
        return np.array(host.array())

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> HostArray:
        """Uninitialised page-locked memory of the CPU, which the GPU sees too."""
        kind = np.dtype(dtype)
        size = max(math.prod(shape) * kind.itemsize, 1)
        self.make_current()
        with translated("not enough page-locked memory", gpu=self.gpu, needed_bytes=size):
            buffer = self._pinned.allocate(size)
        error, pointer = self._driver.cuMemHostGetDevicePointer(int(buffer.handle), 0)
        # With unified addressing, that is on every 64-bit Linux, both addresses are the same.
        seen = int(pointer) if int(error) == 0 else int(buffer.handle)
        return HostArray(buffer, shape, kind, seen)

    def _allocate(self, size_bytes: int) -> Any:
        self.make_current()
        size = max(size_bytes, 1)
        with translated("not enough GPU memory", gpu=self.gpu, needed_bytes=size, device=self):
            stream = self.core.default_stream
            buffer = self.core.allocate(size, stream=stream)
            # Allocation is ordered on the default stream, for which our streams do not wait.
            stream.sync()
        return buffer

    def copy(
        self, target: DeviceArray | HostArray, source: DeviceArray | HostArray, stream: Any
    ) -> None:
        """Enqueue a copy of an array to another one of its shape."""
        self.copy_rows(target.side, source.side, target.row_bytes, target.rows, stream)

    def copy_rows(
        self, target: tuple[int, int], source: tuple[int, int], row_bytes: int, rows: int,
        stream: Any,
    ) -> None:  # fmt: skip
        """Enqueue a copy of rows; each side is (address, pitch), in CPU or GPU memory."""
        driver = self._driver
        if target[1] == source[1] == row_bytes or rows == 1:
            (error,) = driver.cuMemcpyAsync(target[0], source[0], row_bytes * rows, stream.handle)
        else:
            copy = driver.CUDA_MEMCPY2D()
            unified = driver.CUmemorytype.CU_MEMORYTYPE_UNIFIED
            copy.srcMemoryType = copy.dstMemoryType = unified
            copy.srcDevice, copy.srcPitch = source
            copy.dstDevice, copy.dstPitch = target
            copy.WidthInBytes, copy.Height = row_bytes, rows
            (error,) = driver.cuMemcpy2DAsync(copy, stream.handle)
        self._check(error, "a copy was refused")

    def fill(self, pointer: int, value: int, size_bytes: int, stream: Any) -> None:
        """Enqueue filling memory with a byte."""
        (error,) = self._driver.cuMemsetD8Async(pointer, value, size_bytes, stream.handle)
        self._check(error, "filling memory was refused")

    def pointer_device(self, pointer: int) -> int | None:
        """Which GPU an address belongs to; None for memory that CUDA does not know."""
        names = self._driver.CUpointer_attribute
        error, index = self._driver.cuPointerGetAttribute(
            names.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, pointer
        )
        if int(error) != 0:
            return None
        return int(index)

    def is_pinned(self, pointer: int) -> bool:
        """Whether an address is page-locked memory of the CPU."""
        names = self._driver.CUpointer_attribute
        error, kind = self._driver.cuPointerGetAttribute(
            names.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer
        )
        host = self._driver.CUmemorytype.CU_MEMORYTYPE_HOST
        return int(error) == 0 and int(kind) == int(host)

    def context_of(self, stream_handle: int) -> int:
        """Address of the context that a stream belongs to.

        Raises:
            DeviceError: The handle is no stream.
        """
        error, context = self._driver.cuStreamGetCtx(stream_handle)
        self._check(error, "the given stream is none of this process")
        return int(context)

    @property
    def context(self) -> int:
        """Address of the primary context."""
        return self._context

    def _check(self, error: Any, headline: str) -> None:
        if int(error) != 0:
            raise device_error(headline, f"{error.name}", gpu=self.gpu)


def bindings_major() -> int | None:
    """CUDA major version that the installed cuda-bindings are for."""
    version = installed_version("cuda-bindings")
    return int(version.split(".")[0]) if version else None


@contextlib.contextmanager
def translated(
    headline: str, *, gpu: Gpu | None = None, needed_bytes: int = 0, device: Device | None = None
) -> Iterator[None]:
    """Turn cuda-core's errors into ours, with the numbers: a device tells its free memory."""
    try:
        yield
    except (SegedgeError, KeyboardInterrupt):
        raise
    except Exception as error:  # cuda-core's own exception types are private
        facts = {"needed": megabytes(needed_bytes)} if needed_bytes else {}
        if device is not None and _OUT_OF_MEMORY in str(error):
            with contextlib.suppress(SegedgeError):
                free, total = device.memory_bytes()
                facts["free"] = f"{megabytes(free)} of {megabytes(total)}"
        raise device_error(headline, str(error), gpu=gpu, facts=facts) from error


def device_error(
    headline: str, says: str, *, gpu: Gpu | None = None, facts: dict[str, str] | None = None
) -> DeviceError:
    """An error of CUDA with what helps to mend it."""
    facts = {**(facts or {}), "says": says.strip().splitlines()[0][:200] if says.strip() else "-"}
    driver = find_driver()
    if gpu:
        facts["gpu"] = str(gpu)
    facts["driver"] = f"for {driver.cuda_text}, cuda-bindings {installed_version('cuda-bindings')}"
    fix = None
    if _OUT_OF_MEMORY in says:
        fix = "close other programs on the GPU, use fewer slots, or a smaller network or frame"
    elif "CUDA_ERROR_ILLEGAL_ADDRESS" in says or "LAUNCH_FAILED" in says:
        fix = "a kernel failed: compute-sanitizer python ... shows where; please report it"
    return DeviceError(headline, facts=facts, fix=fix)
