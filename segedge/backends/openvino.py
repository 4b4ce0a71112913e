"""OpenVINO on the CPU: usually the fastest on x86-64."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segedge.backends.base import Arrays, Memory, Precision, TensorSpec, check_usable, run_error
from segedge.errors import BackendError, last_line
from segedge.machine.optional import require

Wish = Literal["auto", "f32", "bf16", "f16"]
_PURPOSE = "run ONNX models with OpenVINO"


class OpenVinoBackend:
    """A compiled model and one inference request on OpenVINO's CPU device."""

    memory: Memory = "host"

    def __init__(self, path: Path, *, threads: int, precision: Wish = "auto") -> None:
        """Compile a model; ``auto`` is OpenVINO's own choice, bf16 where the CPU has it."""
        self._ov = _import_openvino()
        self._compiled = self._compile(path, threads, precision)
        self._request = self._compiled.create_infer_request()
        self._writes_to_caller = False
        self.specs = (
            tuple(map(_spec, self._compiled.inputs)),
            tuple(map(_spec, self._compiled.outputs)),
        )
        version = self._ov.get_version().split("-")[0]
        self.precision: Precision = self._compiled.get_property(
            "INFERENCE_PRECISION_HINT"
        ).get_type_name()
        self.description = f"OpenVINO {version} (CPU, {self.precision}, {threads} threads)"

    def _compile(self, path: Path, threads: int, precision: Wish) -> Any:
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": "1",
        }
        if precision != "auto":
            config["INFERENCE_PRECISION_HINT"] = precision
        try:
            return _core().compile_model(str(path), "CPU", config)
        except Exception as error:  # RuntimeError and OpenVINO's own classes
            raise BackendError(
                f"OpenVINO cannot compile {path.name}",
                facts={"says": last_line(error)},
                fix="--backend onnxruntime",
            ) from error

    def run(self, inputs: Arrays, outputs: Arrays | None = None, *, stream: int = 0) -> Arrays:
        """Run once; see `Backend.run`."""
        check_usable(self._compiled is not None, self.description)
        if outputs is None and self._writes_to_caller:
            # The old request would go on writing into the arrays of the call before.
            self._request = self._compiled.create_infer_request()
        self._writes_to_caller = outputs is not None
        request, tensor = self._request, self._ov.Tensor
        try:
            for index, array in enumerate(inputs):
                request.set_input_tensor(index, tensor(array, shared_memory=True))
            if outputs is not None:
                for index, array in enumerate(outputs):
                    request.set_output_tensor(index, tensor(array, shared_memory=True))
            request.infer()
        except Exception as error:  # see _compile
            headline = "OpenVINO failed while running the network"
            raise run_error(headline, inputs, self.specs, last_line(error)) from error
        if outputs is not None:
            return outputs
        return [np.array(output.data) for output in request.output_tensors]

    def close(self) -> None:
        """Free the compiled model."""
        self._request = self._compiled = None


def openvino_abilities() -> frozenset[str]:
    """What OpenVINO can compute in on this CPU: ``FP32``, ``BF16``, ``INT8`` ...

    It is asked itself: which of a CPU's flags it goes by changes with its version.
    """
    return frozenset(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


@cache
def _core() -> Any:
    """One for the process: of several, each gives the thread a stack for signals and frees it.

    Whichever goes last gives the one before it back, whether that is still there or not; the next
    Ctrl-C would be handled on memory that is gone.
    """
    return _import_openvino().Core()


_CONVERTER = "openvino.tools.ovc"


def _import_openvino() -> Any:
    """OpenVINO without the converter that it imports along, and that one's telemetry.

    They take longer to import than the rest (0.1 s of a start), and nothing here uses them.
    `openvino.convert_model` still works: it is imported at its first use.
    """
    if "openvino" in sys.modules or _CONVERTER in sys.modules:
        return require("openvino", purpose=_PURPOSE)
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # "not installed", to an import
    try:
        openvino = require("openvino", purpose=_PURPOSE)
    finally:
        del sys.modules[_CONVERTER]
    if not hasattr(openvino, "convert_model"):
        openvino.__getattr__ = _convert_model
    return openvino


def _convert_model(name: str) -> Any:
    """Attributes that OpenVINO's package does not have yet (PEP 562)."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    found = importlib.import_module(_CONVERTER).convert_model
    sys.modules["openvino"].convert_model = found  # type: ignore[attr-defined]
    return found


def _spec(port: Any) -> TensorSpec:
    shape = tuple(
        axis.get_length() if axis.is_static else None for axis in port.get_partial_shape()
    )
    return TensorSpec(port.get_any_name(), np.dtype(port.get_element_type().to_dtype()).name, shape)
