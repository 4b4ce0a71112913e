"""TensorRT and TensorRT-RTX: a compiled engine on an NVIDIA GPU, device arrays in and out."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segedge.backends.base import Memory, Precision, TensorSpec, check_usable
from segedge.backends.device_arrays import device_pointer
from segedge.cuda.runtime.array import DeviceArray
from segedge.cuda.runtime.device import Device
from segedge.engine.builder.build import build_engine
from segedge.engine.builder.log import build_log, recorded
from segedge.engine.builder.network import numpy_name
from segedge.engine.cache import EngineCache
from segedge.engine.check import check_engine
from segedge.engine.facts import EngineFacts
from segedge.engine.file import is_engine, kernels_path, read_engine
from segedge.engine.flavour import Flavour, load_flavour
from segedge.engine.options import BuildOptions
from segedge.engine.versions import create_context, is_capturable, plan_validity, serialized_kernels
from segedge.errors import BackendError, DeviceError
from segedge.machine.files import replace_file
from segedge.machine.gpu import Gpu, require_gpu
from segedge.machine.optional import require

_PURPOSE = "run TensorRT engines"
_log = logging.getLogger("segedge.engine")


class TensorRtBackend:
    """An engine with one execution context on the first GPU.

    Arrays are anything with ``__cuda_array_interface__``; work is ordered on the caller's stream.
    """

    memory: Memory = "cuda"

    def __init__(
        self, path: Path, *, flavour: str = "auto", options: BuildOptions | None = None
    ) -> None:
        """Load ``model.engine``, or build one for ``model.onnx`` by way of the user's engine cache.

        An engine brings its own flavour.
        """
        opened = _open(path, flavour, options)
        self._device = Device.open()
        trt = opened.flavour.module
        try:
            self._runtime, self._engine = _deserialized(opened)
        except BackendError as error:
            if not opened.cached:
                raise
            opened = _build(path, opened.flavour, opened.gpu, options, refused=_reason(error))
            self._runtime, self._engine = _deserialized(opened)
        self.facts = opened.facts
        self._flavour, self._kernels = opened.flavour, opened.kernels
        self._opened = replace(opened, plan=b"")
        self._scratch: Any = None
        self._context, self._runtime_cache = self._new_context()
        self.specs = _specs(trt, self._engine)
        self._kernels_saved = False
        precision = opened.facts.precision if opened.facts else self.specs[0][0].dtype
        self.precision: Precision = _arithmetic(opened.facts)
        self.description = f"{opened.flavour} ({opened.gpu.name}, {precision})"

    @property
    def device_memory_bytes(self) -> int:
        """Scratch memory on the GPU that the engine needs beside its weights."""
        return int(self._engine.device_memory_size_v2)

    @property
    def device(self) -> Device:
        """The GPU that it runs on."""
        return self._device

    def fork(self) -> TensorRtBackend:
        """The same engine and weights with an execution context of its own.

        Contexts share nothing that is written to, so that each can run on a stream of its own at
        the same time as the others.
        """
        twin = copy.copy(self)
        twin._scratch = None
        twin._context, twin._runtime_cache = twin._new_context()
        twin._kernels_saved = True
        return twin

    def _new_context(self) -> tuple[Any, Any]:
        opened = self._opened
        given = bool(opened.facts and opened.facts.options.get("user_allocation"))
        engine, kernels = self._engine, _read_kernels(self._kernels)
        with recorded(self._flavour):
            context, cache = create_context(
                self._flavour, engine, kernels=kernels, user_managed=given
            )
        if context is None:
            size = self.device_memory_bytes / 1e6
            raise DeviceError(
                f"not enough GPU memory to run {opened.name}",
                facts={"needed": f"{size:.0f} MB beside the weights", "gpu": str(opened.gpu)},
                fix="close other programs on the GPU, or build for a smaller --size",
            )
        if given:
            size_bytes = self.device_memory_bytes
            self._scratch = self._device.empty((size_bytes,), "uint8")
            context.set_device_memory(self._scratch.pointer, size_bytes)
        return context, cache

    def run(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None, *, stream: int = 0
    ) -> Sequence[Any]:
        """Enqueue once on ``stream``; see `Backend.run`. The caller synchronises."""
        check_usable(self._engine is not None, self.description)
        context = self._context
        for spec, array in zip(self.specs[0], inputs, strict=True):
            pointer, shape = device_pointer(spec, array)
            if None in spec.shape:
                self._set_shape(context, spec, shape)
            context.set_tensor_address(spec.name, pointer)
        results = self._new_outputs() if outputs is None else outputs
        for spec, array in zip(self.specs[1], results, strict=True):
            context.set_tensor_address(spec.name, device_pointer(spec, array)[0])
        with recorded(self._flavour) as log:
            enqueued = context.execute_async_v3(stream)
        if not enqueued:
            raise BackendError(
                "TensorRT failed while running the network",
                facts={"says": "; ".join(log.errors[:2]) or "no reason given"},
            )
        if not self._kernels_saved:
            self._save_kernels()
        return results

    def is_capturable(self, stream: int) -> bool:
        """Whether a CUDA graph may capture `run` on a stream; run it once plainly before."""
        return is_capturable(self._flavour, self._context, stream)

    def output_shapes(self, input_shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shapes of the outputs for shapes of the inputs."""
        context = self._context
        for spec, shape in zip(self.specs[0], input_shapes, strict=True):
            if None in spec.shape:
                self._set_shape(context, spec, shape)
        return [tuple(context.get_tensor_shape(spec.name)) for spec in self.specs[1]]

    def _set_shape(self, context: Any, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        if context.set_input_shape(spec.name, shape):
            return
        engine = self._engine
        low, _, high = (tuple(s) for s in engine.get_tensor_profile_shape(spec.name, 0))
        raise BackendError(
            f"the engine was not built for an input of {'x'.join(map(str, shape))}",
            facts={"built for": f"{'x'.join(map(str, low))} to {'x'.join(map(str, high))}"},
            fix="segedge build MODEL.onnx --size MIN:USUAL:MAX",
        )

    def _new_outputs(self) -> list[DeviceArray]:
        shapes = (tuple(self._context.get_tensor_shape(spec.name)) for spec in self.specs[1])
        return [
            self._device.empty(shape, spec.dtype)
            for shape, spec in zip(shapes, self.specs[1], strict=True)
        ]

    def _save_kernels(self) -> None:
        """Keep what TensorRT-RTX compiled, so that the next start is fast."""
        self._kernels_saved = True
        if self._runtime_cache is None or self._kernels is None:
            return
        with contextlib.suppress(OSError):
            replace_file(self._kernels, serialized_kernels(self._runtime_cache))

    def close(self) -> None:
        """Free the engine; in this order, as TensorRT wants it."""
        self._context = self._runtime_cache = self._scratch = None
        self._engine = None
        self._runtime = None


@dataclass(frozen=True)
class _Opened:
    """An engine in host memory, found fit for this machine."""

    name: str
    plan: bytes = field(repr=False)
    facts: EngineFacts | None
    flavour: Flavour
    gpu: Gpu
    kernels: Path | None
    cached: bool = False
    """Whether an earlier process built it."""


def _open(path: Path, flavour: str, options: BuildOptions | None) -> _Opened:
    if not is_engine(path):
        loaded = load_flavour(flavour, purpose=_PURPOSE)
        gpu = require_gpu(purpose=f"running {loaded} engines", cuda_major=loaded.cuda_major)
        require("cuda.core", purpose=_PURPOSE)
        return _build(path, loaded, gpu, options)
    file = read_engine(path)
    name = file.header.flavour if flavour == "auto" else flavour
    loaded = load_flavour(name, purpose=_PURPOSE)
    gpu = require_gpu(
        purpose=f"running {loaded} engines",
        cuda_major=loaded.cuda_major,
        instead="run the ONNX file that the engine was built from on this CPU",
    )
    require("cuda.core", purpose=_PURPOSE)
    for warning in check_engine(file, flavour=loaded, gpu=gpu):
        _log.warning(warning)
    return _Opened(path.name, file.plan, file.facts, loaded, gpu, kernels_path(path))


def _build(
    path: Path, flavour: Flavour, gpu: Gpu, options: BuildOptions | None, *, refused: str = ""
) -> _Opened:
    built = build_engine(
        path,
        options=options,
        flavour=flavour,
        cache=EngineCache.default(),
        say=_log.info,
        refused=refused,
    )
    for warning in built.warnings:
        _log.warning(warning)
    kernels = kernels_path(built.path) if built.path else None
    return _Opened(path.name, built.plan, built.facts, flavour, gpu, kernels, built.cached)


def _deserialized(opened: _Opened) -> tuple[Any, Any]:
    """The runtime and the engine in the GPU's memory."""
    flavour = opened.flavour
    with recorded(flavour) as log:
        runtime = flavour.module.Runtime(build_log(flavour))
        engine = runtime.deserialize_cuda_engine(opened.plan)
        validity = "" if engine is not None else plan_validity(flavour, runtime, opened.plan)
    if engine is not None:
        return runtime, engine
    says = "; ".join(log.errors[:2]) or "no reason given"
    facts = {"says": says[:400], "gpu": str(opened.gpu)}
    raise BackendError(
        f"{flavour} refuses to load the engine of {opened.name}",
        facts={**facts, "found": validity} if validity else facts,
        fix="update the NVIDIA driver, or --backend onnxruntime",
    )


def _arithmetic(facts: EngineFacts | None) -> Precision:
    """What an engine multiplies in; one of which nothing is known may do what TensorRT likes."""
    if facts is None or facts.precision == "fp32":
        exact = facts is not None and facts.options.get("tf32") is False
        return "f32" if exact else "tf32"
    return "f16" if facts.precision == "fp16" else "int8"


def _reason(error: BackendError) -> str:
    return f"the cached engine is refused: {error.facts.get('found') or error.facts['says']}"


def _read_kernels(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError:
        return None


def _specs(trt: Any, engine: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(None if axis == -1 else axis for axis in engine.get_tensor_shape(name))
        spec = TensorSpec(name, numpy_name(engine.get_tensor_dtype(name)), shape)
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(spec)
    return tuple(inputs), tuple(outputs)
