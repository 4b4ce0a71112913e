"""TensorRT for callers whose arrays are on the CPU: copied in and out through pinned memory.

The CUDA runtime keeps whole frames on the GPU instead; this is for comparing tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import Arrays, Memory, delivered
from segedge.backends.tensorrt import TensorRtBackend
from segedge.cuda.runtime.device import Device
from segedge.engine.options import BuildOptions


class HostTensorRtBackend:
    """A `TensorRtBackend` that takes and gives NumPy arrays."""

    memory: Memory = "host"

    def __init__(
        self, path: Path, *, flavour: str = "auto", options: BuildOptions | None = None
    ) -> None:
        """Load or build an engine; see `TensorRtBackend`."""
        self._inner = TensorRtBackend(path, flavour=flavour, options=options)
        self.specs = self._inner.specs
        self.description = f"{self._inner.description}, copied to and from the CPU"
        self._device = self._inner.device
        self._stream = self._device.stream()
        self._slots: dict[tuple[str, tuple[int, ...]], _Slot] = {}

    def run(self, inputs: Arrays, outputs: Arrays | None = None, *, stream: int = 0) -> Arrays:
        """Run once and wait; see `Backend.run`."""
        self._device.make_current()
        sources = [
            self._slot(spec.name, array.shape, spec.dtype)
            for spec, array in zip(self.specs[0], inputs, strict=True)
        ]
        for slot, array in zip(sources, inputs, strict=True):
            np.copyto(slot.host, array, casting="no")
            slot.upload(self._stream)
        shapes = self._inner.output_shapes([array.shape for array in inputs])
        results = [
            self._slot(spec.name, shape, spec.dtype)
            for spec, shape in zip(self.specs[1], shapes, strict=True)
        ]
        self._inner.run(
            [slot.array for slot in sources],
            [slot.array for slot in results],
            stream=int(self._stream.handle),
        )
        for slot in results:
            slot.download(self._stream)
        self._stream.sync()
        found = [slot.host for slot in results]
        return [host.copy() for host in found] if outputs is None else delivered(found, outputs)

    def _slot(self, name: str, shape: tuple[int, ...], dtype: str) -> _Slot:
        key = name, tuple(shape)
        if key not in self._slots:
            self._slots[key] = _Slot(self._device, key[1], dtype)
        return self._slots[key]

    def close(self) -> None:
        """Free the engine and the buffers."""
        self._slots.clear()
        self._inner.close()


class _Slot:
    """Pinned host memory and device memory of one tensor."""

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: str) -> None:
        self._gpu = device
        self._pinned = device.pinned(shape, dtype)
        self.array = device.empty(shape, dtype)
        self.host: NDArray[Any] = self._pinned.array()

    def upload(self, stream: Any) -> None:
        rows = (self.array.row_bytes, self.array.rows)
        self._gpu.copy_rows(self.array.side, self._pinned.side, *rows, stream)

    def download(self, stream: Any) -> None:
        rows = (self.array.row_bytes, self.array.rows)
        self._gpu.copy_rows(self._pinned.side, self.array.side, *rows, stream)
