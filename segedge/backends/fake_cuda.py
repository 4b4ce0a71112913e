"""FakeCudaBackend: the fake network as a kernel, to test and to measure everything around one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segedge.backends.base import Memory, Precision, TensorSpec
from segedge.backends.device_arrays import device_pointer
from segedge.card.card import ModelCard
from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.program import Kernel
from segedge.machine.optional import require


class FakeCudaBackend:
    """Classes by brightness, as `segedge.backends.fake.FakeBackend`: no file, next to no time."""

    memory: Memory = "cuda"
    precision: Precision = "f32"
    description = "fake (no network, CUDA)"

    def __init__(
        self, card: ModelCard, device: Device, *, dtype: str = "float32", capturable: bool = True
    ) -> None:
        """Make one that fits a card."""
        height, width = card.input_height, card.input_width
        grid = (-(-height // card.stride), -(-width // card.stride))
        self.device = device
        self.specs = (
            (TensorSpec("image", dtype, (1, 3, height, width)),),
            (TensorSpec("logits", dtype, (1, card.channels, *grid)),),
        )
        self._capturable = capturable
        self.kernel = Kernel.of(
            "fake_network", ("common.cu", "fake.cu"),
            classes=card.channels, stride=card.stride, half=dtype == "float16",
        )  # fmt: skip

    def output_shapes(self, input_shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shapes of the outputs; see `DeviceBackend`."""
        return [spec.fixed_shape for spec in self.specs[1]]

    def run(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None, *, stream: int = 0
    ) -> Sequence[Any]:
        """Enqueue once; see `Backend.run`."""
        (first,), (head,) = self.specs
        if outputs is None:
            outputs = [self.device.empty(head.fixed_shape, head.dtype)]
        tensor, shape = device_pointer(first, inputs[0])
        logits, grid = device_pointer(head, outputs[0])
        core = require("cuda.core", purpose="run CUDA kernels")
        launch = self.device.programs.launcher(core.Stream.from_handle(stream))
        sizes = [np.int32(length) for length in (*shape[2:], *grid[2:])]
        blocks = (-(-grid[2] * grid[3] // 256), 1)
        launch(self.kernel, blocks, (256, 1), [tensor, *sizes[:2], logits, *sizes[2:]])
        return outputs

    def is_capturable(self, stream: int) -> bool:
        """As it was made."""
        return self._capturable

    def fork(self) -> FakeCudaBackend:
        """Itself: it has no scratch memory."""
        return self

    def close(self) -> None:
        """Nothing to free."""
