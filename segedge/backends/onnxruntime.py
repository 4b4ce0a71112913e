"""ONNX Runtime on the CPU: the backend that runs everywhere."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from segedge.backends.base import Arrays, Memory, Precision, TensorSpec, check_usable, run_error
from segedge.card.modelfile import read_card
from segedge.errors import BackendError, SegedgeError, first_line
from segedge.machine.onnx_session import cpu_session
from segedge.machine.optional import require

_DTYPE = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
_PIECE_OF_INPUT = 24
"""Networks need 3 times their input (Fast-SCNN) to 100 times. With this, a process that runs one of
six at 512x1024 holds 17 to 33 % less than as ONNX Runtime lays it out, and 1 % more for SegFormer.
More of it costs each first run the pages of its books."""
_MOST_PIECE = 1 << 30


class OnnxRuntimeBackend:
    """A session on ONNX Runtime's CPU provider, with inputs and outputs bound in place."""

    memory: Memory = "host"
    precision: Precision = "f32"

    def __init__(self, path: Path, *, threads: int, simulate: bool = False) -> None:
        """Open a model.

        ``simulate`` computes a quantized network in float32 and only rounds where its Q/DQ nodes
        say, as int8 hardware with wide sums does; slow, for measuring.
        """
        self._ort = require("onnxruntime", purpose="run ONNX models on a CPU")
        self._ort.set_default_logger_severity(3)
        try:
            self._session = cpu_session(
                path, threads=threads, simulate=simulate, piece=_first_piece(path)
            )
        except Exception as error:  # onnxruntime raises a class of its own per status code
            raise cannot_open(path, error) from error
        self._binding = self._session.io_binding()
        inputs = tuple(map(tensor_spec, self._session.get_inputs()))
        self.specs = (inputs, tuple(map(tensor_spec, self._session.get_outputs())))
        self.description = (
            f"ONNX Runtime {self._ort.__version__} (CPU, {inputs[0].dtype}, {threads} threads"
            + (", int8 simulated)" if simulate else ")")
        )

    def run(self, inputs: Arrays, outputs: Arrays | None = None, *, stream: int = 0) -> Arrays:
        """Run once; see `Backend.run`."""
        check_usable(self._session is not None, self.description)
        binding = self._binding
        for spec, array in zip(self.specs[0], inputs, strict=True):
            binding.bind_input(
                spec.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
            )
        for index, spec in enumerate(self.specs[1]):
            if outputs is None:
                binding.bind_output(spec.name, "cpu")
            else:
                out = outputs[index]
                binding.bind_output(spec.name, "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # see __init__
            headline = "ONNX Runtime failed while running the network"
            raise run_error(headline, inputs, self.specs, first_line(error)) from error
        if outputs is not None:
            return outputs
        return [np.asarray(value) for value in binding.copy_outputs_to_cpu()]

    def close(self) -> None:
        """Free the session."""
        self._binding = self._session = None


def _first_piece(path: Path) -> int:
    """Bytes of memory that networks of this file's input compute in, roughly; 0: nobody knows.

    What is not touched is not there, but for 1/32 of it, by which ONNX Runtime keeps its books.
    """
    with suppress(SegedgeError):  # what is wrong with the file is told by who opens it
        card = read_card(path)
        if card is not None:
            floats = 3 * card.input_height * card.input_width
            return min(_PIECE_OF_INPUT * 4 * floats, _MOST_PIECE)
    return 0


def tensor_spec(argument: Any) -> TensorSpec:
    """What a session says of an input or output."""
    shape = tuple(axis if isinstance(axis, int) else None for axis in argument.shape)
    return TensorSpec(argument.name, _DTYPE.get(argument.type, argument.type), shape)


def cannot_open(path: Path, error: Exception, *, where: str = "") -> BackendError:
    """The library refuses a file."""
    return BackendError(
        f"ONNX Runtime cannot open {path.name}{where}",
        facts={"says": first_line(error)},
        fix=f"segedge inspect {path.name}",
    )
