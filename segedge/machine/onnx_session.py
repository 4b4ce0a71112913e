"""ONNX Runtime on the CPU: the one place that opens its sessions for that.

The backend that runs on video binds its arrays to one; exporting, fp16 and int8 measure with
`Session`, arrays in and arrays out.
"""

from __future__ import annotations

import ctypes
import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import ModelError
from segedge.machine.optional import require

_FATAL = 4
_LAYS_OUT = (1, 23)
"""ONNX Runtime whose sessions can each have memory laid out for them; see `_memory_laid_out`."""
_laying_out = threading.Lock()
_PURPOSE = "run ONNX models on a CPU"
_IN_BFLOAT16 = (
    "it computes in bfloat16, which ONNX Runtime does not on a CPU: export it in float32, without "
    "torch.autocast or .bfloat16() in its forward; a smaller precision is chosen when it is built"
)
_PLAIN = {
    "could not find an implementation": "an operator that ONNX Runtime does not have here",
    "Non-zero status code": "the network failed while it ran",
}


def cpu_session(
    model: bytes | Path,
    *,
    threads: int = 0,
    simulate: bool = False,
    optimise: bool = True,
    piece: int = 0,
) -> Any:
    """ONNX Runtime's own session; it raises a class of its own a status code.

    ``threads`` 0 leaves them to ONNX Runtime. ``simulate`` runs Q and DQ nodes as they stand, and
    the layers between them in float32, as int8 hardware with wide sums computes. Without
    ``optimise`` every node is run as the file has it, one by one. ``piece`` is how many bytes of
    memory the session takes first, for its networks' features; 0 leaves that to ONNX Runtime.
    """
    runtime = require("onnxruntime", purpose=_PURPOSE)
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool wins a little in the network and loses more around it: it takes the cores
    # from preprocessing, the tail, the decoder and the encoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_quant_qdq", str(int(simulate)))
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model
    with _memory_laid_out(runtime, options, piece):
        return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@contextmanager
def _memory_laid_out(runtime: Any, options: Any, piece: int) -> Iterator[None]:
    """Let the session that is opened within have memory of its own that begins with this piece.

    By itself it takes pieces of 1, 2, 4 ... MB in its first run, and in its second, which knows
    what the first one needed, a piece of the whole size: the memory twice, and new pages in both.
    Only the memory that sessions share can be laid out. So that is replaced as soon as the session
    has it: nobody else does then, and it goes with the session. ONNX Runtime before 1.23 does not
    replace it.
    """
    version = re.match(r"(\d+)\.(\d+)", runtime.__version__)
    if not piece or version is None or tuple(map(int, version.groups())) < _LAYS_OUT:
        yield
        return
    shared = runtime.OrtMemoryInfo(
        "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
    )
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _laying_out:  # it is one a process
        layout = runtime.OrtArenaCfg({"initial_chunk_size_bytes": piece})
        runtime.create_and_register_allocator(shared, layout)
        try:
            yield
        finally:
            runtime.create_and_register_allocator(shared, runtime.OrtArenaCfg({}))


class Session:
    """A network with one input; what ONNX Runtime raises comes as a `ModelError`."""

    def __init__(
        self,
        model: bytes | Path | Any,
        *,
        simulate: bool = False,
        optimise: bool = True,
        error: type[ModelError] = ModelError,
    ) -> None:
        """Load a model: its file, the bytes of one, or an ``onnx.ModelProto``."""
        require("onnxruntime", purpose=_PURPOSE)  # else it would count as refused below
        self._error = error
        try:
            data = model if isinstance(model, (bytes, Path)) else model.SerializeToString()
            self._session = cpu_session(data, simulate=simulate, optimise=optimise)
        except Exception as caught:  # ONNX Runtime's, and protobuf's over 2 GB
            raise error(
                "ONNX Runtime cannot load the network",
                facts={"says": _says(caught)},
                fix=_IN_BFLOAT16 if "bfloat16" in str(caught) else None,
            ) from caught
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise error(
                "only networks with one input can be measured",
                facts={"inputs": ", ".join(value.name for value in inputs)},
            )
        self._input = inputs[0]
        self.input: str = self._input.name
        outputs = self._session.get_outputs()
        self.outputs: list[str] = [output.name for output in outputs]
        self._bfloat16 = {output.name for output in outputs if output.type == "tensor(bfloat16)"}

    def __call__(self, tensor: NDArray[Any], output: str | None = None) -> NDArray[Any]:
        """The named output (by default the first) for one input tensor."""
        return self.run(tensor, [output or self.outputs[0]])[0]

    def run(self, tensor: NDArray[Any], outputs: Sequence[str] | None = None) -> list[NDArray[Any]]:
        """The named outputs (by default all) for one tensor, which is brought to fp16 if need be.

        bfloat16, which NumPy lacks, comes as the same numbers in float32. It fails at run time as
        baked-in shapes do at other sizes.
        """
        half = self._input.type == "tensor(float16)"
        given = np.ascontiguousarray(tensor.astype(np.float16) if half else tensor)
        names = self.outputs if outputs is None else list(outputs)
        try:
            if self._bfloat16.isdisjoint(names):
                return list(self._session.run(names, {self.input: given}))
            return self._run_bfloat16(names, given)
        except Exception as caught:
            raise self._error(
                "the network does not run on this input",
                facts={
                    "input": f"{tensor.dtype} {'x'.join(map(str, tensor.shape))}",
                    "expected": f"{self._input.type} {self._input.shape}",
                    "says": _says(caught),
                },
            ) from caught

    def _run_bfloat16(self, names: list[str], given: NDArray[Any]) -> list[NDArray[Any]]:
        value = require("onnxruntime", purpose=_PURPOSE).OrtValue.ortvalue_from_numpy(given)
        found = self._session.run_with_ort_values(names, {self.input: value})
        return [
            _widened(one) if name in self._bfloat16 else one.numpy()
            for name, one in zip(names, found, strict=True)
        ]


def _widened(value: Any) -> NDArray[np.float32]:
    """A bfloat16 is the upper half of the float32 of its value."""
    shape = tuple(value.shape())
    size = 2 * math.prod(shape)
    bits = np.frombuffer(ctypes.string_at(value.data_ptr(), size), np.uint16).astype(np.uint32)
    return (bits << 16).view(np.float32).reshape(shape)


def _says(error: Exception) -> str:
    """The telling part of ONNX Runtime's message, without its source paths."""
    text = " ".join(str(error).split())
    for fragment, plain in _PLAIN.items():
        if fragment in text:
            tail = text[text.find("Name:") :] if "Name:" in text else text
            return f"{plain}: {tail[:160]}"
    return text[:200]
