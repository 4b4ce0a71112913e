"""Smoothing on the simulated driver: streams of frames over several CUDA streams.

The driver runs the work of a stream only when somebody waits for it, so a frame that is smoothed
before the one in front of it shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from driver.simulated import Control
from numpy.typing import NDArray

from segedge.backends.fake import FakeBackend
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cuda.runtime.device import Device
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.options.frame import FrameOptions
from segedge.options.smoothing import Smoothing
from segedge.segment.on_gpu import CudaSegmenter
from segedge.segment.segmenter import Segmenter

CLASSES = ("night", "dusk", "day", "glare")
PALETTE = ((0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0))
CARD = ModelCard(CLASSES, PALETTE, 48, 64, stride=8)
SMOOTHING = Smoothing(strength=0.8, tolerance=40.0, flicker=True)


def video(count: int, seed: int = 0, size: tuple[int, int] = (48, 64)) -> list[NDArray[np.uint8]]:
    """A still picture with noise, little of it on the left, so that much is smoothed."""
    rng = np.random.default_rng(seed)
    base = rng.integers(60, 180, (*size, 3))
    noise = np.where(np.arange(size[1]) < size[1] // 2, 0.5, 15.0)[:, None]
    return [
        np.clip(base + rng.normal(0, 1, base.shape) * noise, 0, 255).astype(np.uint8)
        for _ in range(count)
    ]


def expected(
    frames: list[Frame], smoothing: Smoothing | None = SMOOTHING
) -> tuple[list[NDArray[Any]], Any]:
    """Logits of the host's segmenter, and what it counted of stream 0."""
    with Segmenter(
        CARD, FakeBackend(CARD), threads=1, options=FrameOptions(smoothing=smoothing)
    ) as host:
        logits = [
            host(Frame(f.image_hwc, f.index, pts_seconds=f.pts_seconds, stream=f.stream)).logits
            for f in frames
        ]
        return logits, host.flicker()


def assert_equal(results: list[Any], logits: list[NDArray[Any]]) -> None:
    for result, wanted in zip(results, logits, strict=True):
        np.testing.assert_allclose(result.logits, wanted, atol=2e-3)


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_video_equals_the_host(device: Device, slots: int, graphs: bool) -> None:
    frames = [Frame(image, number) for number, image in enumerate(video(7))]
    wanted, flicker = expected(frames)
    assert np.abs(wanted[-1] - expected(frames, None)[0][-1]).max() > 0.05, "little is smoothed"
    with CudaSegmenter(
        CARD,
        FakeCudaBackend(CARD, device),
        slots=slots,
        graphs=graphs,
        options=FrameOptions(smoothing=SMOOTHING),
    ) as segmenter:
        segmenter.warm_up(Size(48, 64), outputs=("labels",))
        assert segmenter.flicker() is None
        results = [segmenter(frame, outputs=("labels",)) for frame in frames]
        assert segmenter.flicker() == flicker
        assert flicker.still > 0
        assert_equal(results, wanted)
        assert segmenter.notes == ()
        del results


def test_several_streams_have_a_past_each(device: Device) -> None:
    videos = [video(6, seed) for seed in range(3)]
    frames = [
        Frame(videos[stream][number], number, pts_seconds=number * 0.03 * (stream + 1),
              stream=stream if stream < 2 else None)
        for number in range(6)
        for stream in range(3)
    ]  # fmt: skip
    wanted, flicker = expected(frames)
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), slots=2, options=FrameOptions(smoothing=SMOOTHING)
    ) as segmenter:
        results = [segmenter(frame, outputs=("labels",)) for frame in frames]
        assert_equal(results, wanted)
        assert segmenter.flicker(0) == flicker
        assert segmenter.flicker(2) is None
        del results


def test_a_reset_or_another_size_starts_afresh(device: Device) -> None:
    frames = [Frame(image, number) for number, image in enumerate(video(4))]
    wanted, _ = expected(frames[2:])
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), options=FrameOptions(smoothing=SMOOTHING)
    ) as segmenter:
        first = [segmenter(frame) for frame in frames[:2]]
        segmenter.reset()
        results = [segmenter(frame) for frame in frames[2:]]
        assert_equal(results, wanted)
        other = video(1, size=(96, 128))[0]
        alone, _ = expected([Frame(other)])
        assert_equal([segmenter(Frame(other, 4))], alone)
        del first, results


def test_a_refused_graph_smooths_each_frame_once(device: Device) -> None:
    frames = [Frame(image, number) for number, image in enumerate(video(4))]
    wanted, flicker = expected(frames)
    backend = FakeCudaBackend(CARD, device, capturable=False)
    with CudaSegmenter(CARD, backend, options=FrameOptions(smoothing=SMOOTHING)) as segmenter:
        results = [segmenter(frame, outputs=("labels",)) for frame in frames]
        assert_equal(results, wanted)
        assert segmenter.flicker() == flicker
        assert "refused" in segmenter.notes[0]
        del results


def test_a_frame_is_two_graphs_and_two_kernels(device: Device, sim: Control) -> None:
    images = video(5)
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), slots=1, options=FrameOptions(smoothing=SMOOTHING)
    ) as segmenter:
        segmenter(images[0], outputs=("labels",)).wait()
        launches, graphs = sim.counter("launches"), sim.counter("graph_launches")
        for image in images[1:]:
            segmenter(image, outputs=("labels",)).wait()
        assert sim.counter("graph_launches") == graphs + 2 * 4
        assert sim.counter("launches") == launches + 2 * 4, "more was launched one by one"


def test_times_tell_the_smoothing_apart(device: Device) -> None:
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), timed=True, options=FrameOptions(smoothing=SMOOTHING)
    ) as segmenter:
        result = segmenter(video(1)[0], outputs=("labels",))
        assert "smoothing" in result.times.milliseconds


def test_half_floats(device: Device) -> None:
    frames = [Frame(image, number) for number, image in enumerate(video(4))]
    wanted, _ = expected(frames)
    backend = FakeCudaBackend(CARD, device, dtype="float16")
    with CudaSegmenter(CARD, backend, options=FrameOptions(smoothing=SMOOTHING)) as segmenter:
        for frame, logits in zip(frames, wanted, strict=True):
            found = segmenter(frame).logits
            assert found.dtype == np.float16
            np.testing.assert_allclose(found.astype(np.float32), logits, atol=0.02)


def test_without_smoothing_nothing_is_kept(device: Device) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        segmenter(video(1)[0]).wait()
        assert segmenter.flicker() is None
        segmenter.reset()


def test_labels_are_refused(device: Device) -> None:
    card = CARD.replace(head="labels")
    with pytest.raises(UsageError, match="gives labels"):
        CudaSegmenter(
            card, FakeCudaBackend(CARD, device), options=FrameOptions(smoothing=SMOOTHING)
        )
