"""The steps inside the server compute what a local segmenter computes, byte for byte."""

from __future__ import annotations

import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segedge
from segedge.errors import BackendError, CardError
from segedge.serve.config import parse_text
from segedge.serve.options import TritonOptions
from segedge.serve.repository import write_repository
from segedge.serve.steps import PreprocessStep, TailStep, card_of
from tests.serve import triton_server


class Tensor:
    """As triton_python_backend_utils has it, as far as the steps use it."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self._array = name, array

    @classmethod
    def from_dlpack(cls, name: str, array: np.ndarray) -> Tensor:
        return cls(name, array)

    def as_numpy(self) -> np.ndarray:
        return self._array


class Request:
    def __init__(self, outputs: Sequence[str], **tensors: np.ndarray) -> None:
        self.tensors = [Tensor(name, array) for name, array in tensors.items()]
        self._outputs = list(outputs)

    def requested_output_names(self) -> list[str]:
        return self._outputs


class Response:
    def __init__(self, output_tensors: list[Tensor], error: str | None = None) -> None:
        self.arrays = {tensor.name: tensor.as_numpy() for tensor in output_tensors}
        self.error = error


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The library of the python backend, without the server around it."""
    module = types.ModuleType("triton_python_backend_utils")
    module.Tensor, module.InferenceResponse, module.TritonError = Tensor, Response, str  # type: ignore[attr-defined]
    module.triton_string_to_numpy = {"TYPE_FP32": np.float32}.__getitem__  # type: ignore[attr-defined]
    module.get_input_tensor_by_name = lambda request, name: next(  # type: ignore[attr-defined]
        tensor for tensor in request.tensors if tensor.name == name
    )
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    return module


def arguments(folder: Path) -> dict[str, str]:
    """What the server hands to ``initialize``."""
    from google.protobuf.json_format import MessageToDict

    config = parse_text((folder / "config.pbtxt").read_text(encoding="utf-8"))
    return {"model_config": json.dumps(MessageToDict(config, preserving_proto_field_name=True))}


def frame_of(height: int, width: int) -> np.ndarray:
    """Bright and dark in large patches, so that both classes and borders come up."""
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, 256, (5, 7, 3), np.uint8)
    rows = np.arange(height) * 5 // height
    columns = np.arange(width) * 7 // width
    return np.ascontiguousarray(coarse[rows][:, columns])


def test_steps_equal_a_segmenter(small: Path, tmp_path: Path, backend: Any) -> None:
    report = write_repository(small, tmp_path / "repo", options=TritonOptions(overlay=True))
    before, behind = PreprocessStep(), TailStep()
    before.initialize(arguments(report.models[1].path))
    behind.initialize(arguments(report.models[2].path))
    with segedge.load(small, backend="onnxruntime") as segmenter:
        for size in ((48, 64), (90, 160), (31, 17)):
            frame = frame_of(*size)
            expected = segmenter(frame)
            (sent,) = before.execute([Request(["tensor"], frame=frame)])
            (logits,) = segmenter.backend.run([sent.arrays["tensor"]])
            asked = Request(["labels", "overlay"], frame=frame, logits=logits)
            (got,) = behind.execute([asked])
            assert len(np.unique(expected.labels)) == 2
            np.testing.assert_array_equal(got.arrays["labels"], expected.labels)
            np.testing.assert_array_equal(got.arrays["overlay"], expected.overlay())


def test_only_what_is_asked_for(small: Path, tmp_path: Path, backend: Any) -> None:
    report = write_repository(small, tmp_path / "repo", options=TritonOptions(overlay=True))
    tail = TailStep()
    tail.initialize(arguments(report.models[2].path))
    logits = np.zeros((1, 2, 6, 8), np.float32)
    (got,) = tail.execute([Request(["labels"], frame=frame_of(48, 64), logits=logits)])
    assert list(got.arrays) == ["labels"]


def test_a_bad_frame_fails_alone(small: Path, tmp_path: Path, backend: Any) -> None:
    report = write_repository(small, tmp_path / "repo")
    step = PreprocessStep()
    step.initialize(arguments(report.models[1].path))
    good = Request(["tensor"], frame=frame_of(48, 64))
    bad = Request(["tensor"], frame=np.zeros((5, 0, 3), np.uint8))
    first, second, third = step.execute([good, bad, good])
    assert first.error is None
    assert third.error is None
    assert "an image must be H x W x 3 uint8" in second.error


def test_numpy_2_in_a_server_compiled_for_numpy_1(
    small: Path, tmp_path: Path, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Triton 2.51: arrays arrive as zeros, and nobody says a word."""
    report = write_repository(small, tmp_path / "repo")
    monkeypatch.setattr(Tensor, "as_numpy", lambda self: np.zeros_like(self._array))
    monkeypatch.setattr(np, "__version__", "2.4.6")
    with pytest.raises(BackendError, match="compiled for NumPy 1") as caught:
        PreprocessStep().initialize(arguments(report.models[1].path))
    assert "pip install 'numpy<2'" in str(caught.value)


def test_a_configuration_without_a_card() -> None:
    with pytest.raises(CardError, match=r"street has no parameter segedge\.card"):
        card_of({"name": "street"})


def test_on_a_real_server(batched: Path, tmp_path: Path) -> None:
    """The repository as it is written, in NVIDIA's server: ensemble, warm-up, and the remote
    backend by both protocols, with shared memory and without."""
    if reason := triton_server.why_not():
        pytest.skip(reason)
    import tritonclient.grpc as grpc

    options = TritonOptions(overlay=True, step_instances=1, max_batch=2)
    write_repository(batched, tmp_path / "repo", options=options)
    with (
        triton_server.serve(tmp_path / "repo", tmp_path) as server,
        grpc.InferenceServerClient(server.grpc) as client,
        segedge.load(batched, backend="onnxruntime") as segmenter,
    ):
        for size in ((90, 160), (31, 17)):
            frame = frame_of(*size)
            asked = grpc.InferInput("frame", frame.shape, "UINT8")
            asked.set_data_from_numpy(frame)
            got = client.infer("street_frames", [asked])
            expected = segmenter(frame)
            np.testing.assert_array_equal(got.as_numpy("labels"), expected.labels)
            np.testing.assert_array_equal(got.as_numpy("overlay"), expected.overlay())
        for address in (f"grpc://{server.grpc}/street", f"http://{server.http}/street"):
            for way in ("remote:shm", "remote:wire"):
                with segedge.load(address, backend=way) as remote:
                    for size in ((90, 160), (31, 17)):
                        frame = frame_of(*size)
                        expected = segmenter(frame)
                        np.testing.assert_array_equal(remote(frame).logits, expected.logits)
                        np.testing.assert_array_equal(remote(frame).labels, expected.labels)
