"""ONNX Runtime for measuring: shapes of inner values, and the outputs that parity compares.

Only convert/ uses this; what runs on video is backends/.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.convert.passes.graph import Model, Value, extra_outputs, image_input, to_bytes
from segedge.errors import ExportError
from segedge.machine.optional import require

_FATAL = 4
_PLAIN = {
    "could not find an implementation": "an operator that ONNX Runtime does not have here",
    "Non-zero status code": "the network failed while it ran",
}


class OnnxRunner:
    """A network loaded by ONNX Runtime on the CPU, with all outputs as NumPy arrays."""

    def __init__(self, model: bytes | Path) -> None:
        """Load a model from memory or, where it is a path, from a file."""
        runtime = require("onnxruntime", purpose="check the exported network")
        options = runtime.SessionOptions()
        options.log_severity_level = _FATAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = str(model) if isinstance(model, Path) else model
        try:
            self._session = runtime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a class of its own a status code
            raise ExportError(
                "ONNX Runtime cannot load the network", facts={"says": _first_line(error)}
            ) from error
        self._input = self._session.get_inputs()[0].name
        self.outputs: list[str] = [output.name for output in self._session.get_outputs()]

    def __call__(self, tensor: NDArray[np.float32], output: str | None = None) -> NDArray[Any]:
        """The named output (by default the first) for one input tensor."""
        return self.run(tensor, [output or self.outputs[0]])[0]

    def run(self, tensor: NDArray[np.float32], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Several outputs at once."""
        try:
            return list(self._session.run(list(outputs), {self._input: tensor}))
        except Exception as error:
            shape = "x".join(map(str, tensor.shape))
            raise ExportError(
                f"the network fails at input {shape}", facts={"says": _first_line(error)}
            ) from error


def measure_shapes(
    model: Model, values: Sequence[Value], input_shape: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Real shapes of inner values, by running the network once on zeros."""
    names = [value.name for value in values]
    with extra_outputs(model, values):
        data = to_bytes(model)
    dtype = image_input(model).dtype.numpy()
    arrays = OnnxRunner(data).run(np.zeros(tuple(input_shape), dtype), names)
    return {name: array.shape for name, array in zip(names, arrays, strict=True)}


def _first_line(error: Exception) -> str:
    """The telling part of ONNX Runtime's message, without its source paths."""
    text = str(error).replace("\n", " ")
    for fragment, plain in _PLAIN.items():
        if fragment in text:
            tail = text[text.find("Name:") :] if "Name:" in text else text
            return f"{plain}: {tail[:160]}"
    return text[:200]
