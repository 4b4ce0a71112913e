"""CudaSegmenter on the simulated driver: the real cuda-core, the real kernels, only no silicon.

It must give what the host segmenter gives around the same network, however it is asked.
"""

from __future__ import annotations

import gc
from typing import Any

import cv2
import numpy as np
import pytest
from driver.simulated import Control
from numpy.typing import NDArray

from segedge.backends.fake import FakeBackend
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cuda.foreign import Nv12Frame
from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.graph import capture
from segedge.errors import DeviceError, UsageError
from segedge.frames.frame import Frame
from segedge.options.frame import FrameOptions
from segedge.options.style import OverlayStyle
from segedge.reference import frame as reference
from segedge.segment.drawing import OUTPUTS
from segedge.segment.on_gpu import CudaSegmenter
from segedge.segment.segmenter import Segmenter

CLASSES = ("night", "dusk", "day", "glare")
PALETTE = ((0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0))
CARD = ModelCard(CLASSES, PALETTE, 48, 64, stride=8)


def image_of(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise: large regions of every brightness."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def clear_pixels(card: ModelCard, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the reference's labels are no matter of rounding."""
    geometry = Geometry.fit(Size(*image.shape[:2]), card.input_size, card.fit)
    tensor = reference.preprocess(image, card, geometry)
    (logits,) = FakeBackend(card).run([tensor.astype(np.float32)])
    return ~reference.ambiguous(logits, card, geometry)


def assert_like_the_host(card: ModelCard, image: NDArray[np.uint8], result: Any) -> None:
    with Segmenter(card, FakeBackend(card), threads=1) as host:
        expected = host(image, outputs=OUTPUTS)
        clear = clear_pixels(card, image)
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(result.labels[clear], expected.labels[clear])
        np.testing.assert_array_equal(result.overlay()[clear], expected.overlay()[clear])
        np.testing.assert_allclose(result.confidence[clear], expected.confidence[clear], atol=2e-3)
        counts = reference.class_pixels(result.labels, len(card.classes))
        assert result.class_pixels == dict(zip(card.classes, counts.tolist(), strict=True))


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("size", [(48, 64), (97, 131), (30, 200)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_the_whole_frame_equals_the_host(
    device: Device, fit: str, size: tuple[int, int], graphs: bool
) -> None:
    card = CARD.replace(fit=fit)
    with CudaSegmenter(card, FakeCudaBackend(card, device), graphs=graphs) as segmenter:
        for seed in range(5):  # plain, captured, replayed, on both lanes
            image = image_of(*size, seed)
            result = segmenter(image, outputs=OUTPUTS)
            assert_like_the_host(card, image, result)
            del result
        assert segmenter.notes == ()


def test_a_frame_is_one_launch(device: Device, sim: Control) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        segmenter(image_of(96, 128), outputs=("labels", "overlay")).wait()
        launches, graphs = sim.counter("launches"), sim.counter("graph_launches")
        for seed in range(4):
            segmenter(image_of(96, 128, seed), outputs=("labels", "overlay")).wait()
        assert sim.counter("graph_launches") == graphs + 4
        assert sim.counter("launches") == launches, "kernels were launched one by one"


def test_after_warming_up_every_frame_is_one_launch(device: Device, sim: Control) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=3) as segmenter:
        segmenter.warm_up(Size(96, 128), outputs=("overlay",))
        launches = sim.counter("launches")
        results = [segmenter(image_of(96, 128, seed), outputs=("overlay",)) for seed in range(3)]
        for result in results:
            result.wait()
        assert sim.counter("launches") == launches
        del result, results


@pytest.mark.parametrize("asked", [("mean_confidence",), ("labels",), OUTPUTS])
def test_the_mean_of_a_confidence(device: Device, asked: tuple[str, ...]) -> None:
    image = image_of(60, 80, 3)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(image, outputs=asked)
        mean = result.mean_confidence
        confidence = reference.confidence(
            result.logits, CARD, Geometry.fit(Size(60, 80), CARD.input_size, "stretch")
        )
        assert mean == pytest.approx(confidence.mean(dtype=np.float64), abs=1e-4)
        assert mean == result.confidence.mean(dtype=np.float64)


def test_outputs_asked_for_later(device: Device) -> None:
    image = image_of(60, 80, 3)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(image, outputs=("labels",))
        assert_like_the_host(CARD, image, result)
        tensor = reference.preprocess(
            image, CARD, Geometry.fit(Size(60, 80), CARD.input_size, "stretch")
        )
        (logits,) = FakeBackend(CARD).run([tensor.astype(np.float32)])
        np.testing.assert_allclose(result.logits, logits, atol=1e-4)
        assert result.margin.shape == (60, 80)
        assert result.margin.min() >= 0
        np.testing.assert_array_equal(result.labels_of(10, 20, 30, 41), result.labels[10:40, 20:61])
        one = OverlayStyle(opacity=1.0, classes=("day",))
        with Segmenter(CARD, FakeBackend(CARD), threads=1) as host:
            np.testing.assert_array_equal(result.overlay(one), host(image).overlay(one))
        with pytest.raises(UsageError, match="leaves the frame"):
            result.labels_of(50, 0, 20, 10)
        with pytest.raises(UsageError, match="did you mean 'labels'"):
            result.compute(("label",))


def test_hoarded_results_stay_as_they_are(device: Device) -> None:
    """More results are kept than slots are: nobody's memory is used again."""
    images = [image_of(40, 56, seed) for seed in range(20)]
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        results = [segmenter(image, outputs=("labels", "overlay")) for image in images]
        labels = [result.labels for result in results]
        overlays = [result.overlay() for result in results]
        del results
        for seed in range(20, 40):
            segmenter(image_of(40, 56, seed), outputs=("labels", "overlay"))
    for image, found, overlay in zip(images, labels, overlays, strict=True):
        with Segmenter(CARD, FakeBackend(CARD), threads=1) as host:
            expected, clear = host(image), clear_pixels(CARD, image)
        np.testing.assert_array_equal(found[clear], expected.labels[clear])
        np.testing.assert_array_equal(overlay[clear], expected.overlay()[clear])


def test_steady_state_allocates_nothing(device: Device, sim: Control) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        for seed in range(6):
            segmenter(image_of(64, 96, seed), outputs=("labels", "overlay")).labels.sum()
        allocated = sim.counter("live_bytes")
        for seed in range(20):
            segmenter(image_of(64, 96, seed), outputs=("labels", "overlay")).labels.sum()
        assert sim.counter("live_bytes") == allocated


def test_frames_that_change_size_do_not_leak(device: Device, sim: Control) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        held = []
        for turn in range(3):
            for height in range(40, 64, 4):
                result = segmenter(image_of(height, 50), outputs=("labels",))
                assert result.labels.shape == (height, 50)
            held.append(sim.counter("live_bytes"))
            del result, turn
        assert held[1] == held[2]


def test_stream_keeps_the_order(device: Device) -> None:
    images = [image_of(40, 56, seed) for seed in range(7)]
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=3) as segmenter:
        found = [result.labels.copy() for result in segmenter.stream(images, outputs=("labels",))]
        again = [segmenter(image).labels.copy() for image in images]
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_refused_capture_is_said_and_frames_go_on(device: Device) -> None:
    image = image_of(40, 56)
    backend = FakeCudaBackend(CARD, device, capturable=False)
    with CudaSegmenter(CARD, backend) as segmenter:
        for _ in range(3):
            assert_like_the_host(CARD, image, segmenter(image, outputs=OUTPUTS))
        (note,) = segmenter.notes
        assert "the network's library does not allow it" in note


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_capture_that_cuda_refuses(device: Device, sim: Control, stage: int) -> None:
    image = image_of(40, 56)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        sim.refuse_capture(stage)
        for _ in range(3):
            assert_like_the_host(CARD, image, segmenter(image, outputs=OUTPUTS))
        assert len(segmenter.notes) == 1
        assert "CUDA_ERROR" in segmenter.notes[0]


def test_garbage_waits_for_the_end_of_a_capture(device: Device) -> None:
    """Collected meanwhile, its page-locked memory would be refused, lost, and end the capture."""

    class Ring:
        def __init__(self) -> None:
            self.ring, self.memory = self, device.pinned((64,), np.uint8)

    stream, target = device.stream(), device.empty((64,), np.uint8)

    def work(aside: Any) -> None:
        device.fill(target.pointer, 7, 64, aside)
        kept = [[number] for number in range(5000)]  # enough to set the collector off
        device.fill(target.pointer, len(kept) % 256, 64, aside)

    def nested() -> None:
        capture(stream, lambda: work(stream)).close()

    gc.collect()
    Ring()
    capture(device.stream(), nested).close()
    assert gc.isenabled()
    capture(stream, lambda: work(stream)).close()
    gc.disable()
    try:
        capture(stream, lambda: work(stream)).close()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_slot_keeps_the_graphs_of_its_last_requests(device: Device, sim: Control) -> None:
    image = image_of(40, 56)
    asked = [("labels",), ("overlay",), ("confidence",), ("class_pixels",), ("labels", "overlay")]
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        for outputs in (*asked[:4], asked[0], asked[4]):
            segmenter(image, outputs=outputs).wait()
            assert sim.counter("graph_execs") <= 4
        kernels = sim.counter("launches")
        segmenter(image, outputs=asked[0]).wait()
        assert sim.counter("launches") == kernels  # none by itself: its graph is there
        segmenter(image, outputs=asked[1]).wait()
        assert sim.counter("launches") > kernels
        assert_like_the_host(CARD, image, segmenter(image, outputs=asked[0]))


@pytest.mark.parametrize("outputs", [("labels",), ("overlay",), OUTPUTS])
def test_a_graph_that_computes_something_else_is_not_used(
    device: Device, sim: Control, outputs: tuple[str, ...]
) -> None:
    image = image_of(40, 56)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        sim.break_replay(1 + len(outputs))  # the tail's last kernel, and the copies
        for _ in range(3):
            assert_like_the_host(CARD, image, segmenter(image, outputs=outputs))
        sim.break_replay(0)
        assert "replayed, it gives other" in segmenter.notes[0]


@pytest.mark.parametrize("size", [(48, 64), (41, 57)])
def test_gpus_that_share_the_memory_copy_nothing(
    sim: Control, no_leaks: None, size: tuple[int, int]
) -> None:
    sim.set("integrated", 1)
    device = Device.open()
    assert device.gpu.integrated
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        for seed in range(4):
            image = image_of(*size, seed)
            copies = sim.counter("copies")
            result = segmenter(image, outputs=OUTPUTS)
            assert_like_the_host(CARD, image, result)
            if seed > 1:
                assert sim.counter("copies") == copies
            del result
        frame = segmenter(image, outputs=("labels",), to_host=False)
        (labels,) = frame.on_device("labels")
        assert labels.shape == size
        del labels, frame
    del segmenter, device


def test_timed_slots_tell_the_stages(device: Device) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), timed=True) as segmenter:
        result = segmenter(image_of(40, 56), outputs=("labels",))
        stages = ["staging", "upload", "preprocess", "network", "tail", "download"]
        assert list(result.times.milliseconds) == stages


def test_float16_networks(device: Device) -> None:
    image = image_of(64, 80, 5)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device, dtype="float16")) as segmenter:
        result = segmenter(image, outputs=("labels",))
        with Segmenter(CARD, FakeBackend(CARD), threads=1) as host:
            same = result.labels == host(image).labels
        assert same.mean() > 0.99


@pytest.mark.parametrize("pixel_format", ["rgb", "bgra", "rgba", "gray"])
def test_other_pixel_formats(device: Device, pixel_format: str) -> None:
    image = image_of(40, 56)
    codes = {
        "rgb": cv2.COLOR_BGR2RGB, "bgra": cv2.COLOR_BGR2BGRA, "rgba": cv2.COLOR_BGR2RGBA,
        "gray": cv2.COLOR_BGR2GRAY,
    }  # fmt: skip
    other = cv2.cvtColor(image, codes[pixel_format])
    plain = image if pixel_format != "gray" else cv2.cvtColor(other, cv2.COLOR_GRAY2BGR)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(other, outputs=("labels",), pixel_format=pixel_format)
        with Segmenter(CARD, FakeBackend(CARD), threads=1) as host:
            clear = clear_pixels(CARD, plain)
            np.testing.assert_array_equal(result.labels[clear], host(plain).labels[clear])
            if pixel_format == "rgb":
                expected = cv2.cvtColor(host(plain).overlay(), cv2.COLOR_BGR2RGB)
                np.testing.assert_array_equal(result.overlay()[clear], expected[clear])
            else:
                with pytest.raises(UsageError, match=f"no overlay on {pixel_format}"):
                    result.overlay()


def test_nv12_frames(device: Device) -> None:
    luma = image_of(48, 64)[..., 0].copy()
    chroma = np.full((24, 64), 128, np.uint8)  # grey: luma alone tells the brightness
    frame = Nv12Frame(luma, chroma)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(frame, outputs=("labels", "overlay"))
        assert result.labels.shape == (48, 64)
        assert len(np.unique(result.labels)) > 1
        assert result.overlay().shape == (72, 64)
        again = segmenter(frame, outputs=("labels",), to_host=False)
        np.testing.assert_array_equal(again.labels, result.labels)


class Foreign:
    """An array of another library: nothing but the interface."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self.kept = array
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}


def to_numpy(device: Device, array: Any) -> NDArray[Any]:
    """What another library's copy to the CPU would give: after the producer's stream."""
    stream = device.stream()
    import cuda.core

    stream.wait(cuda.core.Stream.from_handle(array.stream))
    return device.download(array, stream)


def test_frames_and_results_on_the_device(device: Device) -> None:
    image = image_of(40, 56, 2)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        expected = segmenter(image, outputs=OUTPUTS)
        frame = Foreign(device.uploaded(image), stream=None)
        for _ in range(3):
            result = segmenter(frame, outputs=OUTPUTS, to_host=False)
            for name in ("labels", "overlay", "confidence"):
                (array,) = result.on_device(name)
                wanted = expected.overlay() if name == "overlay" else getattr(expected, name)
                np.testing.assert_array_equal(to_numpy(device, array), wanted)
                view = array.__cuda_array_interface__
                assert view["shape"] == wanted.shape
            (counts,) = result.on_device("class_pixels")
            assert to_numpy(device, counts).sum() == 40 * 56
            (logits,) = result.on_device("logits")
            np.testing.assert_array_equal(to_numpy(device, logits), expected.logits)
        with pytest.raises(UsageError, match="was not asked for"):
            segmenter(frame, to_host=False).on_device("labels")


def test_an_array_alone_keeps_its_slot(device: Device) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        expected = segmenter(image_of(40, 56), outputs=("labels",)).labels.copy()
        result = segmenter(image_of(40, 56), outputs=("labels",), to_host=False)
        (labels,) = result.on_device("labels")
        del result
        for seed in range(1, 20):
            segmenter(image_of(40, 56, seed), outputs=("labels",), to_host=False)
        np.testing.assert_array_equal(to_numpy(device, labels), expected)


def test_frames_stay_until_the_gpu_has_read_them(device: Device) -> None:
    """Nobody but the slot knows the frame any more, and its copy has not run yet."""
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        for seed in range(5):
            frame = segmenter.frame_memory(Size(40, 56))
            frame[...] = image_of(40, 56, seed)
            (labels,) = segmenter(frame, outputs=("labels",), to_host=False).on_device("labels")
            del frame
            gc.collect()
            found = to_numpy(device, labels)
            expected = segmenter(image_of(40, 56, seed), outputs=("labels",)).labels
            np.testing.assert_array_equal(found, expected)
            del labels, expected


def test_crops_and_foreign_streams(device: Device) -> None:
    """A region of a larger frame, produced on another stream that is not done yet."""
    large = image_of(80, 120, 4)
    array, host = device.empty(large.shape, np.uint8), device.pinned(large.shape, np.uint8)
    host.array()[...] = large
    producer = device.stream()
    device.copy(array, host, producer)
    pointer = array.pointer + 10 * 360 + 3 * 20
    crop = Foreign(array, shape=(40, 56, 3), strides=(360, 3, 1), data=(pointer, False))
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(crop, outputs=("labels",), stream=int(producer.handle))
        expected = segmenter(np.ascontiguousarray(large[10:50, 20:76]), outputs=("labels",))
        np.testing.assert_array_equal(result.labels, expected.labels)


def test_frames_that_name_no_stream_are_the_default_streams(device: Device) -> None:
    """As PyTorch's, whose copy has not run yet."""
    import cuda.core

    image = image_of(40, 56, 6)
    array, host = device.empty(image.shape, np.uint8), device.pinned(image.shape, np.uint8)
    host.array()[...] = image
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        expected = segmenter(image, outputs=("labels",)).labels.copy()
        segmenter(Foreign(array), outputs=("labels",)).wait()  # allocating waits for that stream
        producer = cuda.core.LEGACY_DEFAULT_STREAM
        device.copy(array, host, producer)
        result = segmenter(Foreign(array), outputs=("labels",))
        np.testing.assert_array_equal(result.labels, expected)


def test_dlpack(device: Device) -> None:
    """NumPy refuses GPU memory, but cuda-core's own view takes the capsule."""
    from cuda.core.utils import StridedMemoryView

    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(image_of(40, 50), outputs=("labels", "overlay"), to_host=False)
        (labels,) = result.on_device("labels")
        assert labels.__dlpack_device__() == (2, 0)
        view = StridedMemoryView(labels, stream_ptr=-1)
        assert view.ptr == labels.pointer
        assert view.shape == (40, 50)
        del view, labels, result


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (40, 56, 4)}, "40x56x4"),
        ({"typestr": "<f4"}, "must be uint8"),
        ({"strides": (168, 1, 56)}, "rows must be contiguous"),
        ({"strides": (100, 3, 1)}, "rows must be contiguous"),
        ({"data": (64, False)}, "not in this process's GPU memory"),
    ],
)
def test_frames_that_do_not_fit(device: Device, changes: dict[str, Any], words: str) -> None:
    array = device.uploaded(image_of(40, 56))
    with (
        CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter,
        pytest.raises((UsageError, DeviceError)) as caught,
    ):
        segmenter(Foreign(array, **changes))
    assert words in str(caught.value)


def test_pinned_frames_are_read_where_they_are(device: Device) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        frame = segmenter.frame_memory(Size(40, 56))
        for seed in range(3):
            frame[...] = image = image_of(40, 56, seed)
            result = segmenter(frame, outputs=OUTPUTS)
            assert_like_the_host(CARD, image, result)
            assert "staging" in result.times.milliseconds
        del frame, result


def test_legends(device: Device) -> None:
    style, image = OverlayStyle(legend=True), image_of(200, 300)
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), options=FrameOptions(style=style)
    ) as segmenter:
        found = segmenter(image, outputs=("overlay",)).overlay()
        with Segmenter(
            CARD, FakeBackend(CARD), threads=1, options=FrameOptions(style=style)
        ) as host:
            assert np.mean(found != host(image).overlay()) < 0.02
        plain = segmenter(image).overlay(OverlayStyle())
        assert np.mean(found != plain) > 0.02


def test_through_a_pipeline(device: Device) -> None:
    from segedge.pipeline.runner import Pipeline
    from segedge.video.memory import MemorySink, MemorySource

    images = [image_of(40, 56, seed) for seed in range(12)]
    sinks = [MemorySink(needs=frozenset({"labels", "overlay"})) for _ in range(2)]
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        report = Pipeline(MemorySource(images), segmenter, sinks).run()
    assert (report.read, report.written) == (12, 12)
    assert "gpu" in report.stages
    del sinks, report


def test_misuse(device: Device) -> None:
    with pytest.raises(UsageError, match="at least one slot"):
        CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=0)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        with pytest.raises(UsageError, match="H x W x 3"):
            segmenter(np.zeros((4, 4), np.uint8))
        with pytest.raises(UsageError, match="did you mean 'overlay'"):
            segmenter(image_of(8, 8), outputs=("overly",))
        with pytest.raises(UsageError, match="even sizes"):
            segmenter(Nv12Frame(np.zeros((9, 8), np.uint8), np.zeros((4, 8), np.uint8)))
        with pytest.raises(UsageError, match="takes a CUDA stream"):
            segmenter(image_of(8, 8), stream="mine")
        result = segmenter(Frame(image_of(8, 8)), outputs=("labels",))
        assert result.labels.shape == (8, 8)
        del result


def test_out_of_memory_says_how_much(device: Device) -> None:
    with pytest.raises(DeviceError) as caught:
        device.empty((1 << 50,), np.uint8)
    assert "not enough GPU memory" in caught.value.headline
    assert {"needed", "free", "gpu", "driver"} <= set(caught.value.facts)
    assert "fewer slots" in (caught.value.fix or "")
