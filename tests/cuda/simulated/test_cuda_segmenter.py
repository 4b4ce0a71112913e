"""CudaSegmenter on the simulated driver: the real cuda-core, the real kernels, only no silicon.

It must give what the host segmenter gives around the same network, however it is asked.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from around import assert_like_the_host, clear_pixels
from driver.simulated import Control

from segedge.backends.fake import FakeBackend
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.geometry import Geometry, Size
from segedge.cuda.foreign import Nv12Frame
from segedge.cuda.runtime.device import Device
from segedge.errors import DeviceError, UsageError
from segedge.frames.frame import Frame
from segedge.options.frame import FrameOptions
from segedge.options.style import OverlayStyle
from segedge.reference import frame as reference
from segedge.segment.drawing import OUTPUTS
from segedge.segment.on_gpu import CudaSegmenter
from segedge.segment.segmenter import Segmenter
from tests.brightness import CARD, image_of


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
