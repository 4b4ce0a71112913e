"""PyTorch itself, eagerly or by torch.compile: what every other backend is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import (
    Arrays,
    Memory,
    Precision,
    check_usable,
    delivered,
    one_image_specs,
)
from segedge.errors import BackendError, first_line
from segedge.machine.optional import require


class EagerBackend:
    """A torch module on the CPU, NumPy arrays in and out."""

    memory: Memory = "host"
    precision: Precision = "f32"

    def __init__(
        self,
        module: Any,
        *,
        input_shape: tuple[int, ...],
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        """Wrap a module from one tensor to one tensor; its input is float32 of this shape.

        ``threads`` are torch's, process-wide. Compiling to native code first takes a minute.
        """
        self._torch = require("torch", purpose="run a network eagerly")
        if threads:
            self._torch.set_num_threads(threads)
        self._module = module
        if compiled:
            with translated_compilation():
                self._module = self._torch.compile(module)
                self._forward(np.zeros(input_shape, np.float32))
        self.specs = one_image_specs(input_shape, self._forward(np.zeros(input_shape, np.float32)))
        way = "torch.compile" if compiled else "eager"
        self.description = f"PyTorch {self._torch.__version__} {way} (CPU, float32)"

    @classmethod
    def from_program(
        cls, path: Path, *, threads: int | None = None, compiled: bool = False
    ) -> EagerBackend:
        """Load a ``torch.export`` program (``.pt2``); see the class for the arguments."""
        torch = require("torch", purpose="run a network eagerly")
        program, shape = load_program(torch, path)
        return cls(program.module(), input_shape=shape, threads=threads, compiled=compiled)

    def _forward(self, array: NDArray[Any]) -> NDArray[Any]:
        tensor = self._torch.from_numpy(array)
        result: NDArray[Any] = one_tensor(self._torch, self._module, tensor).numpy()
        return result

    def run(self, inputs: Arrays, outputs: Arrays | None = None, *, stream: int = 0) -> Arrays:
        """Run once; see `Backend.run`."""
        check_usable(self._module is not None, self.description)
        try:
            result = self._forward(inputs[0])
        except RuntimeError as error:
            raise BackendError(
                "PyTorch failed while running the network",
                facts={"input": str(inputs[0].shape), "says": first_line(error)},
            ) from error
        return delivered([result], outputs)

    def close(self) -> None:
        """Drop the module."""
        self._module = None


def one_tensor(torch: Any, module: Any, tensor: Any) -> Any:
    """What a module makes of a tensor; BackendError where that is not one tensor."""
    with torch.inference_mode():
        output = module(tensor)
    if not hasattr(output, "data_ptr"):
        raise BackendError(
            "the eager network must return one tensor",
            facts={"found": type(output).__name__},
            fix="export it to ONNX with --output NAME and run that",
        )
    return output


@contextmanager
def translated_compilation() -> Iterator[None]:
    """What torch.compile raises, in our words."""
    try:
        yield
    except BackendError:
        raise
    except Exception as error:  # a class of its own per part: dynamo, inductor, the C++ compiler
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise BackendError(
            "torch.compile cannot compile the network",
            facts={"says": (lines or [type(error).__name__])[0][:200]},
            fix="it needs a C++ compiler (apt install g++); or --backend eager",
        ) from error


def load_program(torch: Any, path: Path) -> tuple[Any, tuple[int, ...]]:
    """A ``torch.export`` program and the shape of its image input."""
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # zip, pickle and schema errors of many classes
        raise BackendError(
            f"{path.name} is no torch.export program", facts={"says": str(error)[:200]}
        ) from error
    tensors: tuple[Any, ...] = program.example_inputs[0] if program.example_inputs else ()
    if len(tensors) != 1:
        raise BackendError(f"{path.name} takes {len(tensors)} tensors, expected one image")
    return program, tuple(int(axis) for axis in tensors[0].shape)
