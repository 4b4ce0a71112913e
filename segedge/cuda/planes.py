"""A frame's memory on the GPU, and the ways into it: from NumPy, page-locked memory, the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.cuda.foreign import DeviceFrame
from segedge.cuda.runtime.array import DeviceArray, HostArray
from segedge.cuda.runtime.device import Device
from segedge.cuda.tail import Picture


class FramePlanes:
    """The planes of one frame, where graphs find them; copies go by the slot's stream.

    On GPUs that share the CPU's memory, kernels read what was staged.
    """

    def __init__(self, device: Device, stream: Any, shapes: Sequence[tuple[int, ...]]) -> None:
        """Allocate."""
        self._device, self._stream, self._shapes = device, stream, shapes
        self._shared = device.gpu.integrated
        self._staging: tuple[HostArray, ...] = ()
        self._planes: tuple[DeviceArray, ...] = (
            tuple(host.mapped() for host in self._staged())
            if self._shared
            else tuple(device.pitched(shape, np.uint8) for shape in shapes)
        )

    @property
    def picture(self) -> Picture:
        """The frame on the GPU."""
        luma, *chroma = (plane.plane for plane in self._planes)
        return Picture(luma, chroma[0] if chroma else None)

    def _staged(self) -> tuple[HostArray, ...]:
        if not self._staging:
            self._staging = tuple(self._device.pinned(shape, np.uint8) for shape in self._shapes)
        return self._staging

    def stage(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Copy a host frame (its planes) into page-locked memory; the slot must be idle."""
        for host, image in zip(self._staged(), images, strict=True):
            np.copyto(host.array(), image.reshape(host.shape))

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Enqueue a copy from the caller's page-locked memory, which must stay as it is."""
        self._take([(image.ctypes.data, image.strides[0]) for image in images])

    def take(self, frame: DeviceFrame) -> None:
        """Enqueue a copy of a frame that lies on the GPU, so that graphs find it where it was."""
        planes = [frame.plane] if frame.chroma is None else [frame.plane, frame.chroma]
        self._take([(plane.pointer, plane.pitch) for plane in planes])

    def _take(self, sources: Sequence[tuple[int, int]]) -> None:
        for plane, source in zip(self._planes, sources, strict=True):
            self._device.copy_rows(plane.side, source, plane.row_bytes, plane.rows, self._stream)

    def upload_staged(self, stream: Any) -> bool:
        """Enqueue the copy of what was staged; false where none is needed."""
        if not self._shared:
            for plane, host in zip(self._planes, self._staged(), strict=True):
                self._device.copy(plane, host, stream)
        return not self._shared

    def close(self) -> None:
        """Free the memory."""
        self._planes = self._staging = ()
