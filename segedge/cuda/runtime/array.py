"""Arrays in GPU memory and in page-locked CPU memory, and how other libraries see them."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.cuda.runtime.program import Plane
from segedge.machine.optional import require

_DLPACK_CUDA = 2
_DLTENSOR_DEVICE, _VERSIONED_DEVICE = 8, 40
"""Where dlpack.h has device_type: behind `data`; in DLManagedTensorVersioned that is behind the
version, the context, the deleter and the flags."""


@dataclass(frozen=True)
class _Array:
    """What arrays in both kinds of memory have."""

    buffer: Any = field(repr=False)
    """``cuda.core.Buffer`` that owns the memory, or a view of one with its owner."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def pointer(self) -> int:
        """Address in its own kind of memory."""
        return int(self.buffer.handle)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's elements."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def rows(self) -> int:
        """Length of the first axis."""
        return self.shape[0]


@dataclass(frozen=True)
class DeviceArray(_Array):
    """An array in GPU memory; its rows may lie apart, else it is C-contiguous.

    PyTorch, CuPy, Numba, JAX and PyCUDA take it without a copy, by ``__cuda_array_interface__``
    or DLPack. Its values are ready once the stream that writes them is, see the method that gave
    it to you.
    """

    pitch: int = 0
    """Bytes from one row (first axis) to the next; 0: the rows are contiguous."""
    stream: int | None = None
    """Handle of the stream that writes it; consumers wait for it. None: nothing to wait for."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory from the first element to the end of the last row."""
        return (self.pitch or self.row_bytes) * self.rows

    @property
    def plane(self) -> Plane:
        """As the kernels take it."""
        return Plane(self.pointer, self.pitch or self.row_bytes)

    @property
    def side(self) -> tuple[int, int]:
        """(address, pitch), as `Device.copy_rows` takes it."""
        return self.pointer, self.pitch or self.row_bytes

    @property
    def strides(self) -> tuple[int, ...] | None:
        """Bytes from one element to the next on each axis; None where it is C-contiguous."""
        if self.pitch in (0, self.row_bytes):
            return None
        return (self.pitch, *contiguous_strides(self.shape, self.dtype.itemsize)[1:])

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html, version 3."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": self.strides,
            "stream": self.stream,
            "version": 3,
        }

    def __dlpack__(self, **arguments: Any) -> Any:
        """DLPack capsule (https://dmlc.github.io/dlpack): stream, max_version, dl_device, copy."""
        wait = arguments.get("stream")
        if self.stream is not None and wait not in (-1, self.stream):
            _let_wait(wait, self.stream)
        if arguments.get("dl_device") == self.__dlpack_device__():
            arguments["dl_device"] = None  # cuda-core refuses even the device that it lies on
        capsule = self._view().__dlpack__(**{**arguments, "stream": -1})
        _call_it_cuda(capsule)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        """(2, index): CUDA, also where the GPU shares the CPU's memory."""
        _, index = self._view().__dlpack_device__()
        return _DLPACK_CUDA, int(index)

    def _view(self) -> Any:
        views = require("cuda.core.utils", purpose="share GPU arrays")
        strides = self.strides and tuple(step // self.dtype.itemsize for step in self.strides)
        return views.StridedMemoryView.from_buffer(
            self.buffer, self.shape, strides, dtype=self.dtype
        )

    def leased(self, owner: object, stream: int | None) -> DeviceArray:
        """The same memory for somebody else: it keeps ``owner`` alive as long as it lives."""
        core = require("cuda.core", purpose="share GPU arrays")
        view = core.Buffer.from_handle(self.pointer, max(self.nbytes, 1), owner=(owner, self))
        return replace(self, buffer=view, stream=stream)


def contiguous_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Bytes from one element to the next on each axis of a C-contiguous array."""
    strides = [itemsize]
    for length in reversed(shape[1:]):
        strides.append(strides[-1] * length)
    return tuple(reversed(strides))


def _call_it_cuda(capsule: Any) -> None:
    """Write into a DLPack capsule that its memory is the GPU's.

    cuda-core calls mapped memory "CUDA host", which PyTorch and CuPy refuse. The address is the one
    that the GPU uses.
    """
    name, offset = b"dltensor", _DLTENSOR_DEVICE
    python = ctypes.pythonapi
    python.PyCapsule_IsValid.argtypes = [ctypes.py_object, ctypes.c_char_p]
    if not python.PyCapsule_IsValid(capsule, name):
        name, offset = b"dltensor_versioned", _VERSIONED_DEVICE
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    start = python.PyCapsule_GetPointer(capsule, name)
    ctypes.c_int32.from_address(start + offset).value = _DLPACK_CUDA


def _let_wait(consumer: int | None, producer: int) -> None:
    """Make a consumer's stream wait for ours; None is the legacy default stream, as in DLPack."""
    core = require("cuda.core", purpose="share GPU arrays")
    if consumer is None or consumer == 1:
        stream = core.LEGACY_DEFAULT_STREAM
    elif consumer == 2:
        stream = core.PER_THREAD_DEFAULT_STREAM
    else:
        stream = core.Stream.from_handle(consumer)
    stream.wait(core.Stream.from_handle(producer))


@dataclass(frozen=True)
class HostArray(_Array):
    """A C-contiguous array in page-locked memory of the CPU."""

    device_pointer: int
    """The address under which the GPU sees the same memory."""

    @property
    def side(self) -> tuple[int, int]:
        """(address, pitch), as `Device.copy_rows` takes it."""
        return self.pointer, self.row_bytes

    def mapped(self) -> DeviceArray:
        """The same memory as the GPU sees it, for GPUs that share the CPU's memory."""
        core = require("cuda.core", purpose="share GPU arrays")
        size = max(self.row_bytes * self.rows, 1)
        view = core.Buffer.from_handle(self.device_pointer, size, owner=self)
        return DeviceArray(view, self.shape, self.dtype)

    def array(self, owner: object = None) -> NDArray[Any]:
        """A NumPy view that keeps the memory, and ``owner``, alive as long as any view of it."""
        return np.asarray(_View(self, owner))


class _View:
    """Base object of NumPy views; NumPy keeps it as long as one of them lives."""

    __slots__ = ("__array_interface__", "_kept")

    def __init__(self, array: HostArray, owner: object) -> None:
        self._kept = (array, owner)
        self.__array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.pointer, False),
        }
