"""Frames and streams of other libraries: PyTorch, CuPy, Numba, PyCUDA, PyNvVideoCodec.

An array is taken where it lies, by ``__cuda_array_interface__`` or DLPack; nothing is copied to
look at it. Whose stream produced it, and where it must be used, is told by ``stream=``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segedge.card.geometry import Size
from segedge.cuda.preprocess import CHANNELS_OF, Color, PixelFormat
from segedge.cuda.runtime.array import contiguous_strides
from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.program import Plane
from segedge.errors import DeviceError, UsageError
from segedge.machine.optional import require

_DLPACK_CUDA = (2, 13)
"""kDLCUDA and kDLCUDAManaged; kDLCUDAHost is for `Device.is_pinned` to find."""


@dataclass(frozen=True)
class Nv12Frame:
    """A frame as hardware decoders give it: a plane of luma and one of interleaved U and V.

    Each is a 2-D uint8 array of another library in GPU memory (or both in NumPy arrays).
    """

    luma: Any = field(repr=False)
    """H x W uint8."""
    chroma: Any = field(repr=False)
    """H/2 x W uint8, or H/2 x W/2 x 2."""
    color: Color = field(default_factory=Color)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W)."""
        return tuple(self.luma.shape)


@dataclass(frozen=True)
class DeviceFrame:
    """A foreign frame found fit: its planes in GPU memory."""

    plane: Plane
    chroma: Plane | None
    size: Size
    pixel_format: PixelFormat
    owner: Any = field(repr=False)
    """Keeps the memory alive."""
    stream: int | None = None
    """Stream that its library says it is written on."""


def is_on_device(image: Any) -> bool:
    """Whether an object is an array in GPU memory, by what it says of itself."""
    if isinstance(image, np.ndarray):
        return False
    if isinstance(image, Nv12Frame):
        return is_on_device(image.luma)
    if _interface(image) is not None:
        return True
    tell = getattr(image, "__dlpack_device__", None)
    return tell is not None and int(tell()[0]) in _DLPACK_CUDA


def _interface(image: Any) -> dict[str, Any] | None:
    """CUDA array interface; None where there is none (PyTorch raises for CPU tensors)."""
    try:
        interface: dict[str, Any] | None = image.__cuda_array_interface__
    except (AttributeError, TypeError):
        return None
    return interface


def device_frame(image: Any, device: Device, *, pixel_format: PixelFormat = "bgr") -> DeviceFrame:
    """Look at a foreign array: H x W x 3, H x W x 4 or H x W uint8, or an `Nv12Frame`.

    Raises:
        UsageError: Another type, shape or layout.
        DeviceError: It lies on another GPU.
    """
    if isinstance(image, Nv12Frame):
        return _nv12_frame(image, device)
    channels = CHANNELS_OF[pixel_format][0]
    pointer, shape, strides, stream = _seen(image, "a frame")
    wanted = 2 if pixel_format == "gray" and len(shape) == 2 else 3
    if len(shape) != wanted or (wanted == 3 and shape[2] != channels) or 0 in shape:
        raise UsageError(
            f"a {pixel_format} frame must be H x W"
            + ("" if pixel_format == "gray" else f" x {channels}"),
            facts={"found": "x".join(map(str, shape))},
            fix="pixel_format= names the layout; NV12 comes as an Nv12Frame",
        )
    _check_strides(shape, strides)
    _check_device(pointer, device)
    size = Size(int(shape[0]), int(shape[1]))
    return DeviceFrame(Plane(pointer, strides[0]), None, size, pixel_format, image, stream)


def _nv12_frame(image: Nv12Frame, device: Device) -> DeviceFrame:
    luma, shape, strides, stream = _seen(image.luma, "luma")
    chroma, half, half_strides, _ = _seen(image.chroma, "chroma")
    height, width = shape[0], shape[1] if len(shape) > 1 else 0
    if len(shape) != 2 or height % 2 or width % 2 or 0 in shape:
        raise UsageError(
            "NV12 luma must be H x W with even sizes", facts={"found": "x".join(map(str, shape))}
        )
    if tuple(half) not in ((height // 2, width), (height // 2, width // 2, 2)):
        raise UsageError(
            "NV12 chroma does not fit its luma",
            facts={
                "found": "x".join(map(str, half)),
                "expected": f"{height // 2}x{width} or {height // 2}x{width // 2}x2",
            },
        )
    _check_strides(shape, strides)
    _check_strides(half, half_strides)
    for pointer in (luma, chroma):
        _check_device(pointer, device)
    planes = Plane(luma, strides[0]), Plane(chroma, half_strides[0])
    return DeviceFrame(*planes, Size(height, width), "nv12", image, stream)


def _seen(image: Any, what: str) -> tuple[int, tuple[int, ...], tuple[int, ...], int | None]:
    """Address, shape, strides in bytes, and the producing stream of a uint8 array."""
    interface = _interface(image)
    if interface is not None:
        shape, kind = tuple(interface["shape"]), np.dtype(interface["typestr"])
        strides = interface.get("strides") or contiguous_strides(shape, kind.itemsize)
        pointer, stream = int(interface["data"][0]), interface.get("stream")
    else:
        views = require("cuda.core.utils", purpose="take GPU arrays")
        try:
            view = views.StridedMemoryView(image, stream_ptr=-1)
        except Exception as error:  # BufferError, TypeError or the other library's own
            raise UsageError(
                f"{what} must be an array in GPU memory or a NumPy array",
                facts={"found": type(image).__name__},
            ) from error
        shape, kind, pointer, stream = tuple(view.shape), np.dtype(view.dtype), int(view.ptr), None
        counted = view.strides or contiguous_strides(shape, 1)
        strides = tuple(count * kind.itemsize for count in counted)
    if kind != np.uint8:
        raise UsageError(f"{what} must be uint8", facts={"found": str(kind)})
    return pointer, shape, tuple(strides), stream


def _check_strides(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Rows may lie anywhere, each row must be whole: what pitched memory and crops have."""
    inner = contiguous_strides(shape, 1)
    row_bytes = inner[0]
    if strides[1:] != inner[1:] or (shape[0] > 1 and strides[0] < row_bytes):
        raise UsageError(
            "a frame's rows must be contiguous",
            facts={"found": f"strides {strides} for shape {shape}", "expected": f"{inner}"},
            fix="make it contiguous first: .contiguous() in PyTorch, cupy.ascontiguousarray",
        )


def _check_device(pointer: int, device: Device) -> None:
    index = device.pointer_device(pointer)
    if index is None:
        raise DeviceError(
            "the frame is not in this process's GPU memory", facts={"gpu": str(device.gpu)}
        )
    if index != device.index:
        raise DeviceError(
            "the frame lies on another GPU",
            facts={"found": f"GPU {index}", "expected": f"GPU {device.index}, {device.gpu}"},
            fix="copy it over first, or open the model on that GPU",
        )


def stream_handle(stream: Any) -> int:
    """The CUDA handle of a stream: an int, or one of PyTorch, CuPy, Numba, PyCUDA, cuda-core.

    Raises:
        UsageError: It is no stream.
    """
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        return int((protocol() if callable(protocol) else protocol)[1])
    for name in ("cuda_stream", "ptr", "handle"):  # PyTorch; CuPy; Numba and PyCUDA
        value = getattr(stream, name, None)
        if value is not None:
            return int(getattr(value, "value", value) or 0)
    raise UsageError(
        "stream= takes a CUDA stream or its handle", facts={"found": type(stream).__name__}
    )


def foreign_stream(stream: Any, device: Device) -> Any:
    """A ``cuda.core.Stream`` for a stream of another library, see `stream_handle`.

    0 and 1 are the legacy default stream, 2 the per-thread one.

    Raises:
        UsageError: It is no stream.
        DeviceError: It belongs to another context.
    """
    core = require("cuda.core", purpose="use CUDA streams")
    handle = stream_handle(stream)
    if handle in (0, 1):
        return core.LEGACY_DEFAULT_STREAM
    if handle == 2:
        return core.PER_THREAD_DEFAULT_STREAM
    context = device.context_of(handle)
    if context != device.context:
        raise DeviceError(
            "the given stream belongs to another CUDA context",
            facts={"found": hex(context), "expected": f"the primary one, {hex(device.context)}"},
            fix="use the primary context: pycuda.autoprimaryctx instead of pycuda.autoinit",
        )
    return core.Stream.from_handle(handle)
