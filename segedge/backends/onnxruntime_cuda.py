"""ONNX Runtime on an NVIDIA GPU: its CUDA or TensorRT provider, on our memory, in our order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segedge.backends.base import Memory, Precision, check_usable
from segedge.backends.device_arrays import OneStream, device_pointer
from segedge.backends.onnxruntime import cannot_open, tensor_spec
from segedge.cuda.runtime.device import Device
from segedge.errors import BackendError, first_line
from segedge.machine.optional import require

Provider = Literal["cuda", "tensorrt"]
_PROVIDERS: dict[Provider, str] = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class OnnxRuntimeCudaBackend(OneStream):
    """A session on one of ONNX Runtime's NVIDIA providers, bound to device pointers.

    The provider takes one stream when the session is made; `run` orders that one after and before
    the caller's. It does not let itself be captured, and there is one session for all slots.
    """

    memory: Memory = "cuda"
    precision: Precision = "tf32"

    def __init__(self, path: Path, *, provider: Provider = "cuda") -> None:
        """Open a model on the first GPU.

        The provider ``tensorrt`` lets TensorRT build what it can, anew each time, and CUDA do the
        rest.
        """
        self.device = Device.open()
        self._ort = require("onnxruntime", purpose="run ONNX models on a GPU")
        self._core = require("cuda.core", purpose="run ONNX models on a GPU")
        self._ort.set_default_logger_severity(3)
        if hasattr(self._ort, "preload_dlls"):
            self._ort.preload_dlls()  # CUDA and cuDNN of the nvidia-* wheels, where they are
        self._stream = self.device.stream()
        self._session = self._open(path, provider)
        self._binding = self._session.io_binding()
        self._options = self._ort.RunOptions()
        # Otherwise every run ends by waiting for the GPU.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        inputs = tuple(map(tensor_spec, self._session.get_inputs()))
        self.specs = (inputs, tuple(map(tensor_spec, self._session.get_outputs())))
        version = self._ort.__version__
        name = {"cuda": "CUDA", "tensorrt": "TensorRT provider"}[provider]
        self.description = f"ONNX Runtime {version} ({name}, {self.device.gpu.name})"

    def _open(self, path: Path, provider: Provider) -> Any:
        wanted = _PROVIDERS[provider]
        if wanted not in self._ort.get_available_providers():
            raise BackendError(
                f"this ONNX Runtime has no {wanted}",
                facts={"found": ", ".join(self._ort.get_available_providers())},
                fix="pip uninstall onnxruntime; pip install 'segedge[gpu]'",
            )
        settings = {
            "device_id": str(self.device.index),
            "user_compute_stream": str(int(self._stream.handle)),
        }
        cuda = ("CUDAExecutionProvider", {**settings, "cudnn_conv_algo_search": "EXHAUSTIVE"})
        first = [(wanted, settings)] if provider == "tensorrt" else []
        options = self._ort.SessionOptions()
        try:
            session = self._ort.InferenceSession(
                str(path), options, providers=[*first, cuda, "CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a class of its own per status code
            raise cannot_open(path, error, where=" on the GPU") from error
        if wanted not in session.get_providers():
            raise BackendError(
                f"ONNX Runtime fell back: its {wanted} does not load",
                facts={"found": ", ".join(session.get_providers())},
                fix="pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries that it needs",
            )
        return session

    def output_shapes(self, input_shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shapes of the outputs, by running once on zeros where the file does not say them."""
        if all(None not in spec.shape for spec in self.specs[1]):
            return [spec.fixed_shape for spec in self.specs[1]]
        stream = self.device.stream()
        arrays = []
        for spec, shape in zip(self.specs[0], input_shapes, strict=True):
            array = self.device.empty(shape, spec.dtype)
            self.device.fill(array.pointer, 0, array.nbytes, stream)
            arrays.append(array)
        stream.sync()
        self._bind(arrays)
        for spec in self.specs[1]:
            self._binding.bind_output(spec.name, "cuda", self.device.index)
        self._execute()
        self._stream.sync()
        return [tuple(value.shape()) for value in self._binding.get_outputs()]

    def _bind(self, inputs: Sequence[Any]) -> None:
        for spec, array in zip(self.specs[0], inputs, strict=True):
            pointer, shape = device_pointer(spec, array)
            self._binding.bind_input(
                spec.name, "cuda", self.device.index, np.dtype(spec.dtype).type, shape, pointer
            )

    def _execute(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # see _open
            raise BackendError(
                "ONNX Runtime failed while running the network on the GPU",
                facts={"expected": ", ".join(map(str, self.specs[0])), "says": first_line(error)},
            ) from error

    def run(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None, *, stream: int = 0
    ) -> Sequence[Any]:
        """Enqueue once in the order of ``stream``; see `Backend.run`."""
        check_usable(self._session is not None, self.description)
        if outputs is None:
            shapes = self.output_shapes([tuple(array.shape) for array in inputs])
            outputs = [
                self.device.empty(shape, spec.dtype)
                for shape, spec in zip(shapes, self.specs[1], strict=True)
            ]
        self._bind(inputs)
        for spec, array in zip(self.specs[1], outputs, strict=True):
            pointer, shape = device_pointer(spec, array)
            self._binding.bind_output(
                spec.name, "cuda", self.device.index, np.dtype(spec.dtype).type, shape, pointer
            )
        caller = (
            self._core.Stream.from_handle(stream) if stream else self.device.core.default_stream
        )
        self._stream.wait(caller)
        self._execute()
        caller.wait(self._stream)
        return outputs

    def close(self) -> None:
        """Free the session."""
        self._binding = self._session = None
