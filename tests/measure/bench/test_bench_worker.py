"""What a worker measures, in this process, on tiny networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segedge.backends.eager import translated_compilation as failing
from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.errors import BackendError
from segedge.frames.frame import Frame
from segedge.measure.bench.worker.flow import FlowOptions, RepeatedSource, flow
from segedge.measure.bench.worker.job import Job
from segedge.measure.bench.worker.measure import measure_job
from segedge.measure.bench.worker.modes import network_step
from segedge.segment.segmenter import Segmenter
from segedge.video.memory import MemorySource
from tests.small_model import write_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
CARD = ModelCard(("a", "b"), ((0, 0, 0), (9, 9, 9)), 48, 64, stride=8)


def job(model: Path, **changes: object) -> Job:
    fields = {"backend": "onnxruntime", "modes": ("network",), "seconds": 0.01, **changes}
    return Job(str(model), frame=Size(40, 60), **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def open_model(folder: Path) -> Path:
    return write_model(folder / "open.onnx", dynamic=True, opset=18)


def test_all_modes_have_samples_stages_and_what_was_seen(open_model: Path) -> None:
    answer = measure_job(job(open_model, modes=("network", "frame", "rate")))
    for mode in ("network", "frame", "rate"):
        figures = answer["modes"][mode]
        assert len(figures["samples_ms"]) >= 10
        assert min(figures["samples_ms"]) > 0.0
        assert figures["observed"]["seconds"] > 0.0
    assert set(answer["modes"]["rate"]["stages"][0]) == {"preprocess", "network", "tail"}
    assert answer["build_ms"] is None
    assert answer["device_memory_mb"] is None
    assert min(answer["import_ms"], answer["open_ms"], answer["first_frame_ms"]) >= 0.0
    json.dumps(answer)


def test_batches_and_sizes_of_an_open_network(open_model: Path) -> None:
    answer = measure_job(job(open_model, batch=3, network=Size(24, 32)))
    assert len(answer["modes"]["network"]["samples_ms"]) >= 10


def test_a_network_is_given_the_batch() -> None:
    shapes = []

    def network(tensor: np.ndarray) -> np.ndarray:
        shapes.append(tensor.shape)
        return np.zeros((len(tensor), 2, 6, 8), np.float32)

    backend = FakeBackend(CARD, network=network)
    backend.specs = (
        (type(backend.specs[0][0])("image", "float32", (None, 3, 48, 64)),), backend.specs[1]
    )  # fmt: skip
    network_step(Segmenter(CARD, backend, threads=1), 5)()
    assert shapes[-1] == (5, 3, 48, 64)


def test_a_fixed_batch_is_refused_with_the_fix(folder: Path) -> None:
    fixed = write_model(folder / "fixed.onnx")
    answer = measure_job(job(fixed, batch=2))
    assert "does not take a batch of 2" in answer["modes"]["network"]["refused"]


@pytest.mark.parametrize("backend", ["onnxruntime+tail", "openvino+tail"])
def test_the_tail_inside_the_graph(folder: Path, backend: str) -> None:
    pytest.importorskip(backend.partition("+")[0])
    fixed = write_model(folder / "cut.onnx")
    answer = measure_job(job(fixed, backend=backend, modes=("network", "frame")))
    assert len(answer["modes"]["frame"]["samples_ms"]) >= 10


def _program(path: Path, height: int, *, upsampled: bool) -> Path:
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.conv = torch.nn.AvgPool2d(8), torch.nn.Conv2d(3, 2, 1)

        def forward(self, x):  # type: ignore[no-untyped-def]
            y = self.conv(self.pool(x))
            return torch.nn.functional.interpolate(y, scale_factor=8.0) if upsampled else y

    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 3, height, 64),)), path)
    return path


@pytest.mark.parametrize("upsampled", [False, True])
def test_a_torch_program_beside_the_model(folder: Path, upsampled: bool) -> None:
    """Where it upsamples by itself its labels are of full resolution, whatever the card says."""
    model = write_model(folder / "beside.onnx")
    program = _program(folder / "net.pt2", 48, upsampled=upsampled)
    answer = measure_job(
        job(model, backend="eager", modes=("network", "frame"), program=str(program))
    )
    assert len(answer["modes"]["frame"]["samples_ms"]) >= 10
    assert "eager" in answer["description"]


def test_what_torch_compile_says_is_told() -> None:
    """Compiling for real takes a minute: `segedge bench --backend torch-compile` by hand."""
    with pytest.raises(BackendError, match="compile cannot compile") as caught, failing():
        raise RuntimeError("\nInvalidCxxCompiler: no g++\nmore")
    assert caught.value.facts == {"says": "InvalidCxxCompiler: no g++"}
    assert "g++" in (caught.value.fix or "")
    with pytest.raises(BackendError, match="one tensor"), failing():
        raise BackendError("one tensor")


def test_a_torch_program_of_another_size(folder: Path) -> None:
    model = write_model(folder / "beside.onnx")
    program = _program(folder / "other.pt2", 32, upsampled=False)
    with pytest.raises(BackendError, match="another size") as caught:
        measure_job(job(model, backend="eager", program=str(program)))
    assert caught.value.facts == {"program": "32x64", "model": "48x64"}


def test_a_timeline_is_written(open_model: Path, tmp_path: Path) -> None:
    measure_job(job(open_model, modes=("trace",), trace=str(tmp_path / "t.json")))
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert {"decode", "compute", "write"} <= {event["name"] for event in events}


def images(count: int) -> list[np.ndarray]:
    return [np.full((8, 8, 3), k, np.uint8) for k in range(count)]


def reopened(opened: list[MemorySource]) -> Callable[[], MemorySource]:
    def make() -> MemorySource:
        opened.append(MemorySource(images(3), fps=10.0))
        return opened[-1]

    return make


def test_a_source_is_repeated_as_one_recording() -> None:
    opened: list[MemorySource] = []
    source = RepeatedSource(reopened(opened), is_enough=lambda count: count >= 7)
    frames: list[Frame] = list(source.frames())
    assert [frame.image_hwc[0, 0, 0] for frame in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert [frame.index for frame in frames] == list(range(7))
    assert [frame.pts_seconds for frame in frames] == pytest.approx([k / 10 for k in range(7)])
    assert len(opened) == 3
    assert source.info.fps == 10.0


def test_a_video_is_decoded_and_encoded(tmp_path: Path) -> None:
    from segedge.video.sinks.open import open_sink

    frames = MemorySource([np.full((64, 96, 3), 30 * k, np.uint8) for k in range(4)], fps=25.0)
    sink = open_sink(tmp_path / "in.mp4", info=frames.info)
    with Segmenter(CARD, FakeBackend(CARD), threads=1) as segmenter:
        for frame in frames.frames():
            sink.write(frame, segmenter(frame, outputs=("overlay",)))
        sink.close()
        options = FlowOptions(0.01, at_least=3, video=tmp_path / "in.mp4")
        found = flow(segmenter, images(1)[0], options, folder=tmp_path)
    assert {"decode", "network", "encode"} <= set(found.report.stages)
    assert len(found.intervals_ms) >= 3
    assert found.report.written == found.report.read
