"""ONNX Runtime on the CPU: the backend that runs everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import Memory, TensorSpec
from segedge.errors import BackendError
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


class OnnxRuntimeBackend:
    """A session on ONNX Runtime's CPU provider, with inputs and outputs bound in place."""

    memory: Memory = "host"

    def __init__(self, path: Path, *, threads: int, simulate: bool = False) -> None:
        """Open a model.

        ``simulate`` computes a quantized network in float32 and only rounds where its Q/DQ nodes
        say, as int8 hardware with wide sums does; slow, for measuring.
        """
        self._ort = require("onnxruntime", purpose="run ONNX models on a CPU")
        self._ort.set_default_logger_severity(3)
        self._simulate = simulate
        self._session = self._open(path, threads)
        self._binding = self._session.io_binding()
        inputs = tuple(map(tensor_spec, self._session.get_inputs()))
        self.specs = (inputs, tuple(map(tensor_spec, self._session.get_outputs())))
        self.description = (
            f"ONNX Runtime {self._ort.__version__} (CPU, {inputs[0].dtype}, {threads} threads"
            + (", int8 simulated)" if simulate else ")")
        )

    def _open(self, path: Path, threads: int) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A spinning pool wins a little in the network and loses more around it: it takes the
        # cores from preprocessing, the tail, the decoder and the encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.disable_quant_qdq", str(int(self._simulate)))
        try:
            return self._ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a class of its own per status code
            raise BackendError(
                f"ONNX Runtime cannot open {path.name}",
                facts={"says": first_line(error)},
                fix=f"segedge inspect {path.name}",
            ) from error

    def run(
        self,
        inputs: Sequence[NDArray[Any]],
        outputs: Sequence[NDArray[Any]] | None = None,
        *,
        stream: int = 0,
    ) -> Sequence[NDArray[Any]]:
        """Run once; see `Backend.run`."""
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
        except Exception as error:  # see _open
            raise BackendError(
                "ONNX Runtime failed while running the network",
                facts={
                    "inputs": ", ".join(f"{a.dtype} {a.shape}" for a in inputs),
                    "expected": ", ".join(map(str, self.specs[0])),
                    "says": first_line(error),
                },
            ) from error
        return outputs if outputs is not None else [np.asarray(v) for v in self._copies()]

    def _copies(self) -> list[NDArray[Any]]:
        return list(self._binding.copy_outputs_to_cpu())

    def close(self) -> None:
        """Free the session."""
        self._binding = self._session = None


def tensor_spec(argument: Any) -> TensorSpec:
    """What a session says of an input or output."""
    shape = tuple(axis if isinstance(axis, int) else None for axis in argument.shape)
    return TensorSpec(argument.name, _DTYPE.get(argument.type, argument.type), shape)


def first_line(error: Exception) -> str:
    """What a library says, without its stack."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
