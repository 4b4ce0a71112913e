"""CudaSegmenter on a real GPU: against the host twin, with every backend and library installed.

Skipped with the reason where there is no GPU; SEGEDGE_REQUIRE_GPU=1 makes that a failure. On the
simulated driver (``eval "$(python tests/cuda/driver/simulated.py)"``, and shim/site on PYTHONPATH)
everything but the other libraries runs on the CPU, too.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from shim.gpu import absent
from shim.libraries import LIBRARIES, Library, NoGpuError, address_of, busy

from segedge.backends.fake import FakeBackend
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.backends.registry import open_backend, statuses
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cuda.foreign import Nv12Frame
from segedge.cuda.runtime.device import Device
from segedge.errors import UsageError
from segedge.reference import frame as reference
from segedge.segment.drawing import OUTPUTS
from segedge.segment.on_gpu import CudaSegmenter
from segedge.segment.segmenter import Segmenter
from tests.brightness import CARD, CLASSES, PALETTE, image_of

pytestmark = pytest.mark.gpu

SIMULATED = bool(os.environ.get("SIMCUDA"))
LARGE = CARD if SIMULATED else CARD.replace(input_height=512, input_width=1024)
FRAME = (96, 128) if SIMULATED else (1024, 2048)


@pytest.fixture
def segmenter(gpu: Device) -> Iterator[CudaSegmenter]:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, gpu)) as found:
        yield found


def assert_consistent(card: ModelCard, image: NDArray[np.uint8], result: Any) -> None:
    """Labels, overlay and counts are what the reference makes of the result's own logits."""
    geometry = Geometry.fit(Size(*image.shape[:2]), card.input_size, card.fit)
    logits = np.asarray(result.logits, np.float32)
    clear = ~reference.ambiguous(logits, card, geometry)
    expected = reference.labels(logits, card, geometry)
    np.testing.assert_array_equal(result.labels[clear], expected[clear])
    palette_bgr = [(blue, green, red) for red, green, blue in card.palette_rgb]
    painted = reference.overlay(image, result.labels, palette_bgr, 0.5)
    np.testing.assert_array_equal(result.overlay(), painted)
    counts = reference.class_pixels(result.labels, len(card.classes))
    assert list(result.class_pixels.values()) == counts.tolist()
    confidence = reference.confidence(logits, card, geometry)
    np.testing.assert_allclose(result.confidence, confidence, atol=1e-4)


def assert_like_the_host(card: ModelCard, image: NDArray[np.uint8], result: Any) -> None:
    assert_consistent(card, image, result)
    with Segmenter(card, FakeBackend(card), threads=1) as segmenter:
        host = segmenter(image, outputs=OUTPUTS)
        geometry = Geometry.fit(Size(*image.shape[:2]), card.input_size, card.fit)
        clear = ~reference.ambiguous(host.logits, card, geometry)
        assert clear.mean() > 0.9
        np.testing.assert_allclose(result.logits, host.logits, atol=1e-4)
        np.testing.assert_array_equal(result.labels[clear], host.labels[clear])
        np.testing.assert_array_equal(result.overlay()[clear], host.overlay()[clear])


# ------------------------------------------------------------------ the frame


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "plain"])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(48, 64), (97, 131), (30, 200)])
def test_the_whole_frame_equals_the_host(
    gpu: Device, fit: str, size: tuple[int, int], graphs: bool
) -> None:
    card = CARD.replace(fit=fit)
    with CudaSegmenter(card, FakeCudaBackend(card, gpu), graphs=graphs) as segmenter:
        for seed in range(5):  # plain, captured, replayed, on both lanes
            image = image_of(*size, seed)
            assert_like_the_host(card, image, segmenter(image, outputs=OUTPUTS))
        assert segmenter.notes == ()


def test_a_large_frame_equals_the_host(gpu: Device) -> None:
    with CudaSegmenter(LARGE, FakeCudaBackend(LARGE, gpu)) as segmenter:
        for seed in range(4):
            image = image_of(*FRAME, seed)
            assert_like_the_host(LARGE, image, segmenter(image, outputs=OUTPUTS))
        assert segmenter.notes == ()


def test_float16(gpu: Device) -> None:
    image = image_of(97, 131)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, gpu, dtype="float16")) as segmenter:
        for _ in range(3):
            result = segmenter(image, outputs=OUTPUTS)
            assert_consistent(CARD, image, result)
            with Segmenter(CARD, FakeBackend(CARD), threads=1) as host:
                assert (result.labels == host(image).labels).mean() > 0.99


@pytest.mark.parametrize("slots", [1, 2, 3, 4])
def test_frames_in_flight_keep_their_order_and_content(gpu: Device, slots: int) -> None:
    images = [image_of(64, 96, seed) for seed in range(12)]
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, gpu), slots=slots) as segmenter:
        results = list(segmenter.stream(images, outputs=("labels", "overlay")))
        alone = [segmenter(image, outputs=("labels", "overlay")) for image in images]
        for found, again in zip(results, alone, strict=True):
            np.testing.assert_array_equal(found.labels, again.labels)
            np.testing.assert_array_equal(found.overlay(), again.overlay())


def test_outputs_asked_for_later_and_regions(segmenter: CudaSegmenter) -> None:
    image = image_of(60, 80, 3)
    result = segmenter(image)
    assert_like_the_host(CARD, image, result)
    assert result.margin.min() >= 0
    np.testing.assert_array_equal(result.labels_of(10, 20, 30, 41), result.labels[10:40, 20:61])


def test_pinned_frames(segmenter: CudaSegmenter) -> None:
    frame = segmenter.frame_memory(Size(60, 80))
    for seed in range(3):
        frame[...] = image_of(60, 80, seed)
        result = segmenter(frame, outputs=OUTPUTS)
        assert_like_the_host(CARD, frame, result)


def test_nv12_on_the_gpu_and_on_the_cpu(gpu: Device, segmenter: CudaSegmenter) -> None:
    library = LIBRARIES["cuda-core"](gpu)
    luma, chroma = image_of(48, 64)[..., 0].copy(), np.full((24, 64), 128, np.uint8)
    on_cpu = segmenter(Nv12Frame(luma, chroma), outputs=("labels", "overlay"))
    frame = Nv12Frame(library.put(luma), library.put(chroma))
    on_gpu = segmenter(frame, outputs=("labels", "overlay"))
    assert len(np.unique(on_cpu.labels)) > 1
    np.testing.assert_array_equal(on_gpu.labels, on_cpu.labels)
    np.testing.assert_array_equal(on_gpu.overlay(), on_cpu.overlay())


def test_stages_are_timed(gpu: Device) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, gpu), timed=True) as segmenter:
        result = segmenter(image_of(60, 80), outputs=("labels",))
        found = result.times.milliseconds
    assert {"preprocess", "network", "tail"} <= set(found)
    assert min(found.values()) >= 0


def test_frames_that_change_size_do_not_leak(gpu: Device) -> None:
    """The slow, thorough one is in benchmarks/gpu_check.py."""
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, gpu)) as segmenter:

        def turn() -> int:
            for height in range(40, 104, 8):
                for _ in range(4):
                    assert segmenter(image_of(height, 80), outputs=OUTPUTS).labels.any()
            gc.collect()
            return gpu.memory_bytes()[0]

        free = [turn() for _ in range(4 if SIMULATED else 20)]
    assert free[-1] >= free[1] - (8 << 20), free


# ------------------------------------------------------------------ networks


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path | None, ModelCard]:
    """Two convolutions as ONNX and, where torch is installed, as a torch.export program."""
    onnx = pytest.importorskip("onnx")
    card = ModelCard(CLASSES, PALETTE, 64, 128, stride=2)
    rng = np.random.default_rng(0)
    weights = [
        rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((8, 3, 3, 3), (4, 8, 3, 3))
    ]
    folder = tmp_path_factory.mktemp("network")
    onnx.save(_conv_model(weights, card), folder / "net.onnx")
    return folder / "net.onnx", _conv_program(weights, card, folder / "net.pt2"), card


def _conv_model(weights: list[NDArray[np.float32]], card: ModelCard) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["logits"], pads=[1, 1, 1, 1], strides=[2, 2]),
    ]
    shapes = {"image": (1, 3, 64, 128), "logits": (1, 4, 32, 64)}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    arrays = [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "net", [values["image"]], [values["logits"]], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, card.to_metadata())
    return model


def _conv_program(weights: list[NDArray[np.float32]], card: ModelCard, path: Path) -> Path | None:
    try:
        import torch
    except ImportError:
        return None
    layers = [
        torch.nn.Conv2d(3, 8, 3, padding=1, bias=False),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 4, 3, padding=1, stride=2, bias=False),
    ]
    for layer, weight in zip((layers[0], layers[2]), weights, strict=True):
        layer.weight.data = torch.from_numpy(weight)
    module = torch.nn.Sequential(*layers).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 64, 128),)), str(path))
    return path


@pytest.mark.parametrize("name", ["tensorrt", "onnxruntime-cuda", "eager-cuda"])
def test_backends_equal_the_host(
    network: tuple[Path, Path | None, ModelCard],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGEDGE_CACHE_DIR", str(tmp_path))
    onnx_path, program, card = network
    status = next(status for status in statuses() if status.name == name)
    if not status.ready:
        pytest.skip(f"{name}: {status.detail}")
    if name == "eager-cuda" and not _torch_has_cuda():
        absent("this PyTorch does not reach the GPU")
    image = image_of(97, 131)
    host_path, host_name = _host_of(onnx_path, program)
    backend = open_backend(program if name == "eager-cuda" else onnx_path, name).backend
    with (
        Segmenter(card, open_backend(host_path, host_name).backend) as host,
        CudaSegmenter(card, backend) as segmenter,
    ):
        expected = host(image, outputs=OUTPUTS)
        span = float(np.ptp(expected.logits))
        for _ in range(5):
            result = segmenter(image, outputs=OUTPUTS)
            assert_consistent(card, image, result)
            assert np.abs(result.logits - expected.logits).max() < 0.01 * span  # TF32
            assert (result.labels == expected.labels).mean() > 0.99
        if name == "tensorrt":
            assert segmenter.notes == ()


def _torch_has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _host_of(onnx_path: Path, program: Path | None) -> tuple[Path, str]:
    """A file and a backend of the CPU that runs it."""
    ready = {status.name for status in statuses() if status.ready}
    for name in ("onnxruntime", "openvino:f32"):
        if name.partition(":")[0] in ready:
            return onnx_path, name
    if program is None:
        pytest.skip("no backend of the CPU to compare with: pip install onnxruntime")
    return program, "eager"


# ------------------------------------------------------------------ other libraries


@pytest.fixture(params=list(LIBRARIES))
def library(request: pytest.FixtureRequest, gpu: Device) -> Library:
    try:
        return LIBRARIES[request.param](gpu)
    except ImportError as error:
        pytest.skip(f"{request.param} is not installed: {error}")
    except NoGpuError as error:
        absent(str(error))


def test_frames_come_in(segmenter: CudaSegmenter, library: Library) -> None:
    for seed in range(4):
        image = image_of(60, 80, seed)
        result = segmenter(library.put(image), outputs=OUTPUTS)
        assert_consistent(CARD, image, result)
        np.testing.assert_array_equal(result.labels, segmenter(image).labels)


def test_results_go_out_without_a_copy(segmenter: CudaSegmenter, library: Library) -> None:
    image, stream = image_of(60, 80), library.stream()
    expected = segmenter(image, outputs=OUTPUTS)
    wanted = {"labels": expected.labels, "overlay": expected.overlay()}
    wanted["logits"] = expected.logits
    for _ in range(3):
        result = segmenter(image, outputs=OUTPUTS, to_host=False, stream=stream)
        for name, values in wanted.items():
            (array,) = result.on_device(name)
            theirs = library.adopt(array, stream)
            assert address_of(theirs) == array.pointer
            np.testing.assert_array_equal(library.get(theirs, stream), values)


def test_results_outlive_their_segmenter(gpu: Device, library: Library) -> None:
    """Memory that another library holds is neither freed nor written again."""
    stream = library.stream()
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, gpu)) as segmenter:
        image = image_of(60, 80, 1)
        expected = segmenter(image, outputs=("labels",)).labels.copy()
        result = segmenter(image, outputs=("labels",), to_host=False, stream=stream)
        theirs = library.adopt(result.on_device("labels")[0], stream)
        del result
        for seed in range(2, 14):
            segmenter(image_of(60, 80, seed), outputs=("labels",), to_host=False)
    gc.collect()
    np.testing.assert_array_equal(library.get(theirs, stream), expected)


def test_streams_are_honoured_both_ways(
    gpu: Device, segmenter: CudaSegmenter, library: Library
) -> None:
    """The frame is written late, read, and overwritten at once, all on the library's stream."""
    old, new = image_of(64, 80, 5), image_of(64, 80, 6)
    expected = segmenter(new, outputs=("labels",)).labels.copy()
    frame, first, second = (library.put(image) for image in (old, old, new))
    kept, stream = library.put(np.zeros((64, 80), np.uint8)), library.stream()
    for _ in range(6):  # plain, captured, replayed, on both lanes
        with busy(gpu, stream, megabytes=1 if SIMULATED else 256):
            library.copy(frame, second, stream)
            result = segmenter(frame, outputs=("labels",), to_host=False, stream=stream)
            library.copy(frame, first, stream)
            labels = library.adopt(result.on_device("labels")[0], stream)
            library.copy(kept, labels, stream)
            np.testing.assert_array_equal(library.get(kept, stream), expected)


def test_dlpack_takes_what_consumers_pass(segmenter: CudaSegmenter) -> None:
    """PyTorch and others name the device and forbid a copy; asking for one is refused."""
    result = segmenter(image_of(60, 80), outputs=("labels",), to_host=False)
    (array,) = result.on_device("labels")
    here = array.__dlpack_device__()
    for wait in (None, 1, 2, -1, array.stream):
        assert array.__dlpack__(stream=wait, max_version=(1, 1), dl_device=here, copy=False)
    with pytest.raises(BufferError):
        array.__dlpack__(dl_device=(1, 0))
    with pytest.raises(BufferError):
        array.__dlpack__(copy=True)


def test_crops_need_no_copy(segmenter: CudaSegmenter, gpu: Device) -> None:
    """Rows may lie apart, as in pitched memory and in a part of a larger picture."""

    class Crop:
        def __init__(self, array: Any) -> None:
            self.kept = array
            self.__cuda_array_interface__ = {
                "shape": (40, 56, 3),
                "typestr": "|u1",
                "data": (array.pointer + 10 * 360 + 3 * 20, False),
                "strides": (360, 3, 1),
                "version": 3,
            }

    large = image_of(80, 120, 4)
    crop = Crop(LIBRARIES["cuda-core"](gpu).put(large))
    expected = segmenter(np.ascontiguousarray(large[10:50, 20:76]), outputs=("labels",))
    found = segmenter(crop, outputs=("labels",))
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_frames_of_the_wrong_type_are_refused(segmenter: CudaSegmenter, library: Library) -> None:
    with pytest.raises(UsageError, match="must be uint8"):
        segmenter(library.put(np.zeros((40, 56, 3), np.float32)))
    with pytest.raises(UsageError, match="H x W x 3"):
        segmenter(library.put(np.zeros((40, 56), np.uint8)))
