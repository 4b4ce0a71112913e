"""The TensorRT backend: what it says without a GPU, and its calls on a pretended one.

No engine runs here: the library, the GPU and its memory are pretended, so these tests show the
order and the arguments of the calls. benchmarks/gpu_check.py shows the rest, on a GPU.
"""

from __future__ import annotations

import ctypes
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segedge.backends import tensorrt as module
from segedge.backends.registry import open_backend, statuses
from segedge.backends.tensorrt import TensorRtBackend
from segedge.engine.builder.build import build_engine
from segedge.engine.cache import EngineCache
from segedge.engine.file import engine_card, kernels_path
from segedge.engine.flavour import Flavour
from segedge.engine.options import BuildOptions
from segedge.errors import BackendError, DeviceError, UsageError
from segedge.machine.gpu import Gpu, find_driver
from tests.engine.graphs import CARD, conv_model, save

GPU = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, False)
no_gpu = pytest.mark.skipif(find_driver().gpu is not None, reason="there is a GPU here")


@no_gpu
@pytest.mark.parametrize("suffix", [".onnx", ".engine"])
def test_without_a_gpu_it_says_so(
    rtx: Flavour, model: Path, cache: EngineCache, tmp_path: Path, suffix: str
) -> None:
    path = model
    if suffix == ".engine":
        path = tmp_path / "m.engine"
        build_engine(model, flavour=rtx, output=path)
    with pytest.raises(DeviceError) as caught:
        open_backend(path, "tensorrt")
    assert "needs an NVIDIA GPU" in caught.value.headline
    assert "libcuda.so.1" in str(caught.value) or "code" in str(caught.value)
    assert not cache.folder.exists()  # nothing was built for a GPU that is not there


@no_gpu
def test_auto_falls_back(rtx: Flavour, model: Path) -> None:
    choice = open_backend(model)
    assert choice.name in ("openvino", "onnxruntime")
    choice.backend.close()
    status = next(status for status in statuses() if status.name == "tensorrt")
    assert not status.ready
    assert "builds engines here" in status.detail


def test_an_engine_runs_without_its_onnx_file(
    pretend: Any, rtx: Flavour, model: Path, cache: EngineCache, tmp_path: Path
) -> None:
    """`segedge run model.engine`: card and classes come from the JSON file beside the plan."""
    path = tmp_path / "m.engine"
    card = CARD.replace(stride=2)
    build_engine(save(conv_model(), model, card=card), flavour=rtx, output=path)
    model.unlink()
    engine = Engine((1, 3, 32, 64))
    engine.channels = 4
    pretend(engine)
    choice = open_backend(path)
    assert (choice.name, choice.reason) == ("tensorrt", "an engine")
    assert isinstance(choice.backend, TensorRtBackend)
    assert engine_card(path) == card


def test_variants(model: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'fp16'"):
        open_backend(model, "tensorrt:fp61")


class Array:
    """A `DeviceArray` or `HostArray` in plain memory of the CPU."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self._data = np.zeros(shape, dtype)
        self.pointer = self._data.ctypes.data
        self.rows, self.row_bytes = shape[0], self._data.nbytes // shape[0]
        self.side = self.pointer, self.row_bytes
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": self._data.dtype.str,
            "data": (self.pointer, False),
            "version": 3,
        }

    def array(self) -> np.ndarray:
        return self._data


class Device:
    """What the backend uses of `segedge.cuda.runtime.device.Device`."""

    gpu = GPU
    empty = staticmethod(Array)


class Context:
    """Adds one to the first input and writes it to the output; static or dynamic batch."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses, self.calls = engine, {}, []
        self.shape = tuple(max(axis, 1) for axis in engine.shape)
        self.fails = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.calls.append(("shape", name, tuple(shape)))
        if shape[0] > 4:
            return False
        self.shape = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        channels = self.engine.channels
        return self.shape if name == "image" else (self.shape[0], channels, *self.shape[2:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert isinstance(address, int)
        self.addresses[name] = address
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        self.calls.append(("memory", size))

    def is_stream_capturable(self, stream: int) -> bool:
        return stream == 77

    def execute_async_v3(self, stream: int) -> bool:
        self.calls.append(("execute", stream))
        if self.fails:
            return False
        source, target = (self._memory(name) for name in ("image", "logits"))
        target[: source.size] = source + 1
        return True

    def _memory(self, name: str) -> np.ndarray:
        size = int(np.prod(self.get_tensor_shape(name))) * 4
        return np.frombuffer((ctypes.c_uint8 * size).from_address(self.addresses[name]), np.float32)


class Engine:
    num_io_tensors = 2
    device_memory_size_v2 = 1000

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.channels = shape[1]
        self.kernels: list[bytes] = []

    def get_tensor_name(self, index: int) -> str:
        return ("image", "logits")[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == "image" else (self.shape[0], self.channels, *self.shape[2:])

    def get_tensor_dtype(self, name: str) -> str:
        return "DataType.FLOAT"

    def get_tensor_mode(self, name: str) -> int:
        return 1 if name == "image" else 2

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(1, *self.shape[1:]), (1, *self.shape[1:]), (4, *self.shape[1:])]

    def create_runtime_config(self) -> Any:
        cache = types.SimpleNamespace(
            deserialize=self.kernels.append, serialize=lambda: b"compiled kernels"
        )
        return types.SimpleNamespace(
            create_runtime_cache=lambda: cache,
            set_runtime_cache=lambda given: None,
            set_execution_context_allocation_strategy=lambda given: None,
        )

    def create_execution_context(self, *_: Any) -> Context:
        self.context = Context(self)
        return self.context


@pytest.fixture
def pretend(rtx: Flavour, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace library, GPU and memory; returns a function that sets the engine."""
    trt = types.SimpleNamespace(
        ILogger=rtx.module.ILogger,
        TensorIOMode=types.SimpleNamespace(INPUT=1),
        ExecutionContextAllocationStrategy=rtx.module.ExecutionContextAllocationStrategy,
        EngineValidity=types.SimpleNamespace(INVALID=2),
        EngineInvalidityDiagnostics=rtx.module.EngineInvalidityDiagnostics,
    )
    monkeypatch.setattr(module, "require_gpu", lambda **_: GPU)
    monkeypatch.setattr(module.Device, "open", Device)
    monkeypatch.setattr(
        module, "load_flavour", lambda name, **_: Flavour("tensorrt_rtx", trt, rtx.version, 13)
    )
    # Building is real: only what loads and runs is pretended.
    real = module.build_engine
    monkeypatch.setattr(
        module, "build_engine", lambda *args, **more: real(*args, **{**more, "flavour": rtx})
    )

    def use(engine: Engine | None, validity: tuple[int, int] = (0, 0)) -> None:
        trt.Runtime = lambda log: types.SimpleNamespace(
            deserialize_cuda_engine=lambda plan: engine, get_engine_validity=lambda plan: validity
        )

    return use


def test_compiled_kernels_are_kept_for_the_next_start(
    pretend: Any, model: Path, cache: EngineCache
) -> None:
    first = Engine((1, 3, 4, 8))
    pretend(first)
    backend = TensorRtBackend(model)
    assert first.kernels == []
    backend.run([device_array(np.zeros((1, 3, 4, 8), np.float32))])
    (entry,) = cache.entries()
    assert kernels_path(entry.path).read_bytes() == b"compiled kernels"
    second = Engine((1, 3, 4, 8))
    pretend(second)
    TensorRtBackend(model)
    assert second.kernels == [b"compiled kernels"]


def test_dynamic_shapes(pretend: Any, model: Path, cache: EngineCache) -> None:
    engine = Engine((-1, 3, 4, 8))
    pretend(engine)
    backend = TensorRtBackend(model)
    assert backend.specs[0][0].shape == (None, 3, 4, 8)
    assert backend.output_shapes([(2, 3, 4, 8)]) == [(2, 3, 4, 8)]
    (made,) = backend.run([device_array(np.zeros((2, 3, 4, 8), np.float32))])
    assert made.__cuda_array_interface__["shape"] == (2, 3, 4, 8)
    with pytest.raises(BackendError) as caught:
        backend.run([device_array(np.zeros((9, 3, 4, 8), np.float32))])
    assert "9x3x4x8" in str(caught.value)
    assert "1x3x4x8 to 4x3x4x8" in str(caught.value)


def device_array(array: np.ndarray, **changes: Any) -> Any:
    interface = {
        "shape": array.shape,
        "typestr": array.dtype.str,
        "data": (array.ctypes.data, False),
        "version": 3,
    }
    return types.SimpleNamespace(__cuda_array_interface__={**interface, **changes})


def test_device_arrays_on_the_callers_stream(pretend: Any, model: Path, cache: EngineCache) -> None:
    engine = Engine((1, 3, 4, 8))
    pretend(engine)
    backend = TensorRtBackend(model)
    assert backend.memory == "cuda"
    assert "TensorRT-RTX 1.7.1 (NVIDIA GeForce RTX 4090, fp32)" in backend.description
    image = np.ones((1, 3, 4, 8), np.float32)
    target = np.zeros_like(image)
    backend.run([device_array(image)], [device_array(target)], stream=123)
    assert engine.context.calls == [("execute", 123)]  # and no shape of static axes
    np.testing.assert_array_equal(target, 2)
    (made,) = backend.run([device_array(image)])
    assert made.__cuda_array_interface__["shape"] == (1, 3, 4, 8)
    assert (backend.is_capturable(77), backend.is_capturable(0)) == (True, False)
    engine.context.fails = True
    with pytest.raises(BackendError, match="failed while running"):
        backend.run([device_array(image)], [device_array(target)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (1, 3, 4, 9)}, "1x3x4x9 float32"),
        ({"shape": (3, 4, 8)}, "3x4x8"),
        ({"typestr": "<f2"}, "float16"),
        ({"strides": (1, 2, 3, 4)}, "strides"),
    ],
)
def test_arrays_that_do_not_fit(
    pretend: Any, model: Path, cache: EngineCache, changes: Any, words: str
) -> None:
    pretend(Engine((1, 3, 4, 8)))
    backend = TensorRtBackend(model)
    with pytest.raises(BackendError) as caught:
        backend.run([device_array(np.zeros((1, 3, 4, 8), np.float32), **changes)])
    assert words in str(caught.value)
    with pytest.raises(BackendError, match="must be in GPU memory"):
        backend.run([np.zeros((1, 3, 4, 8), np.float32)])


def test_a_fork_has_a_context_of_its_own(pretend: Any, model: Path, cache: EngineCache) -> None:
    engine = Engine((1, 3, 4, 8))
    pretend(engine)
    backend = TensorRtBackend(model)
    first = engine.context
    twin = backend.fork()
    assert engine.context is not first
    image, target = np.ones((1, 3, 4, 8), np.float32), np.zeros((1, 3, 4, 8), np.float32)
    twin.run([device_array(image)], [device_array(target)], stream=5)
    assert engine.context.calls == [("execute", 5)]
    assert first.calls == []
    twin.close()
    backend.run([device_array(image)], [device_array(target)], stream=6)
    assert first.calls == [("execute", 6)]


def test_memory_given_by_the_caller(pretend: Any, model: Path, cache: EngineCache) -> None:
    engine = Engine((1, 3, 4, 8))
    pretend(engine)
    TensorRtBackend(model, options=BuildOptions(user_allocation=True))
    assert engine.context.calls == [("memory", 1000)]


def test_a_refused_engine_says_why(pretend: Any, model: Path, cache: EngineCache) -> None:
    pretend(None, validity=(2, 2 | 4))
    with pytest.raises(BackendError) as caught:
        TensorRtBackend(model)
    assert "refuses to load" in caught.value.headline
    assert caught.value.facts["found"] == "unsupported cc, old cuda driver"


def test_a_refused_engine_of_the_cache_is_built_anew(
    pretend: Any, rtx: Flavour, model: Path, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    """Once; what is refused when it is fresh is an error."""
    build_engine(model, flavour=rtx, cache=cache)
    (before,) = cache.entries()
    pretend(None, validity=(2, 4))
    with caplog.at_level("INFO", "segedge.engine"), pytest.raises(BackendError):
        TensorRtBackend(model)
    assert "the cached engine is refused: old cuda driver" in caplog.text
    (after,) = cache.entries()
    assert after.path == before.path
    assert after.facts.built >= before.facts.built


def test_no_memory_for_a_context(pretend: Any, model: Path, cache: EngineCache) -> None:
    engine = Engine((1, 3, 4, 8))
    engine.create_execution_context = lambda *_: None  # type: ignore[method-assign]
    pretend(engine)
    with pytest.raises(DeviceError, match="not enough GPU memory"):
        TensorRtBackend(model)
