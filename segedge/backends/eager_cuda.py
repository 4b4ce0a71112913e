"""The network in PyTorch on an NVIDIA GPU, as it was trained: the baseline, on our memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segedge.backends.base import Memory, Precision, TensorSpec, check_usable
from segedge.backends.device_arrays import OneStream, device_pointer
from segedge.backends.eager import load_program, one_tensor, translated_compilation
from segedge.cuda.runtime.device import Device
from segedge.errors import BackendError, first_line
from segedge.machine.optional import require


class EagerCudaBackend(OneStream):
    """A ``torch.export`` program on the GPU. Slots share one stream; it is not captured.

    PyTorch's allocator orders memory by stream, and hands out memory that it uses again elsewhere
    after a capture that it does not know of.
    """

    memory: Memory = "cuda"
    precision: Precision = "tf32"

    def __init__(self, path: Path, *, compiled: bool = False) -> None:
        """Load a ``.pt2`` file onto the first GPU; compiling it first takes a minute."""
        self.device = Device.open()
        self._torch = require("torch", purpose="run a network eagerly")
        if not self._torch.cuda.is_available():
            raise BackendError(
                "this PyTorch does not reach the GPU",
                facts={"found": f"torch {self._torch.__version__}"},
                fix="pip install torch   (a build with CUDA)",
            )
        program, shape = load_program(self._torch, path)
        passes = require("torch.export.passes", purpose="move a program to the GPU")
        self._module = passes.move_to_device_pass(program, "cuda").module()
        zeros = self._torch.zeros(shape, device="cuda")
        if compiled:
            with translated_compilation():
                self._module = self._torch.compile(self._module)
                self._forward(zeros)
        logits = self._forward(zeros)
        self.specs = (
            (TensorSpec("image", "float32", shape),),
            (TensorSpec("logits", str(logits.dtype).partition(".")[2], tuple(logits.shape)),),
        )
        way = "torch.compile" if compiled else "eager"
        self.description = f"PyTorch {self._torch.__version__} {way} ({self.device.gpu.name})"

    def _forward(self, tensor: Any) -> Any:
        return one_tensor(self._torch, self._module, tensor).contiguous()

    def output_shapes(self, input_shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shapes of the outputs: a program's are fixed."""
        return [self.specs[1][0].fixed_shape]

    def run(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None, *, stream: int = 0
    ) -> Sequence[Any]:
        """Enqueue once; see `Backend.run`."""
        check_usable(self._module is not None, self.description)
        torch = self._torch
        device_pointer(self.specs[0][0], inputs[0])
        if outputs is None:
            outputs = [self.device.empty(self.output_shapes([])[0], self.specs[1][0].dtype)]
        try:
            with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
                result = self._forward(torch.as_tensor(inputs[0], device="cuda"))
                torch.as_tensor(outputs[0], device="cuda").copy_(result)
        except RuntimeError as error:
            raise BackendError(
                "PyTorch failed while running the network on the GPU",
                facts={"says": first_line(error)},
            ) from error
        return outputs

    def close(self) -> None:
        """Drop the module."""
        self._module = None
