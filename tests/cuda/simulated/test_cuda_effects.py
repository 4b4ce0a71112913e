"""Effects of CudaSegmenter on the simulated driver: as on the host, in a frame's one launch."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from around import clear_pixels
from numpy.typing import NDArray

from segedge.backends.fake import FakeBackend
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.cuda.foreign import Nv12Frame
from segedge.cuda.runtime.device import Device
from segedge.errors import UsageError
from segedge.options.effect import Effect
from segedge.options.frame import FrameOptions
from segedge.options.style import OverlayStyle
from segedge.segment.on_gpu import CudaSegmenter
from segedge.segment.segmenter import Segmenter
from tests.brightness import CARD, image_of

EFFECTS_BY_NAME = {
    "mask": Effect("mask"),
    "side-by-side": Effect("side-by-side"),
    "cutout": Effect("cutout", edge_logits=3.0),
    "blur": Effect("blur", blur=0.1),
    "replace": Effect("replace", "#10ff80", edge_logits=3.0),
    "outline": Effect("outline"),
    "heat": Effect("heat"),
    "entropy": Effect("heat", heat="entropy"),
}


def assert_like_the_host_effect(
    image: NDArray[np.uint8], style: OverlayStyle, result: Any, slack: int
) -> None:
    with Segmenter(CARD, FakeBackend(CARD), threads=1) as host:
        expected = host(image).overlay(style)
    found = result.overlay()
    assert found.shape == expected.shape
    clear = clear_pixels(CARD, image)
    if style.effect.name == "side-by-side":
        clear = np.concatenate([clear, clear], axis=1)
    if style.effect.name == "outline":  # its window sees the neighbours
        clear = cv2.erode(clear.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    off = np.abs(found[clear].astype(int) - expected[clear])
    assert np.mean(off > slack) < 1e-3


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("name", EFFECTS_BY_NAME)
def test_effects_equal_the_hosts(device: Device, name: str, graphs: bool) -> None:
    style = OverlayStyle(0.6, classes=("day", "dusk"), effect=EFFECTS_BY_NAME[name])
    slack = {"mask": 0, "side-by-side": 0, "outline": 0}.get(name, 6)
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), options=FrameOptions(style=style), graphs=graphs
    ) as segmenter:
        for seed in range(3):  # plain, captured, replayed
            image = image_of(70, 91, seed)
            result = segmenter(image, outputs=("overlay", "labels"))
            assert_like_the_host_effect(image, style, result, slack)
            del result
        assert segmenter.notes == ()


def test_effects_asked_for_later(device: Device) -> None:
    image = image_of(60, 80, 3)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(image, outputs=("labels",))
        with Segmenter(CARD, FakeBackend(CARD), threads=1) as host:
            expected = host(image)
        for name in ("cutout", "blur", "outline", "side-by-side"):
            found = result.picture(name, classes=("day",))
            wanted = expected.picture(name, classes=("day",))
            assert found.shape == wanted.shape
            assert np.mean(np.abs(found.astype(int) - wanted) > 6) < 0.01
        beach = Effect("replace", "#00ff00")
        assert result.picture(beach, classes=("day",)).shape == (60, 80, 3)
        with pytest.raises(UsageError, match="no effect 'cutot'; did you mean 'cutout'"):
            result.picture("cutot")
        del result


def test_effects_on_frames_that_cannot_have_them(device: Device) -> None:
    luma, chroma = np.zeros((48, 64), np.uint8), np.full((24, 64), 128, np.uint8)
    blurred = OverlayStyle(classes=("day",), effect=Effect("blur"))
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), options=FrameOptions(style=blurred)
    ) as segmenter:
        with pytest.raises(UsageError, match="no blur on NV12 frames"):
            segmenter(Nv12Frame(luma, chroma), outputs=("overlay",))
        with pytest.raises(UsageError, match="no overlay on gray frames"):
            segmenter(luma, outputs=("overlay",), pixel_format="gray")
    mask = OverlayStyle(classes=("day",), effect=Effect("mask"))
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), options=FrameOptions(style=mask)
    ) as segmenter:
        result = segmenter(Nv12Frame(luma, chroma), outputs=("overlay", "labels"))
        assert np.all(result.overlay()[:48][result.labels == 0] == 16)  # black is luma 16
        del result


def test_nv12_frames_have_no_legend(device: Device) -> None:
    frame = Nv12Frame(np.zeros((48, 64), np.uint8), np.full((24, 64), 128, np.uint8))
    options = FrameOptions(style=OverlayStyle(legend=True))
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), options=options) as segmenter:
        result = segmenter(frame, outputs=("labels",))
        with pytest.raises(UsageError, match="no legend on NV12 frames"):
            result.overlay()
        del result


def test_rgb_frames_keep_their_order_in_effects(device: Device) -> None:
    image = image_of(60, 80, 1)
    style = OverlayStyle(classes=("day",), effect=Effect("replace", "#ff8000"))
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), options=FrameOptions(style=style)
    ) as segmenter:
        bgr = segmenter(image, outputs=("overlay",))
        rgb = segmenter(
            np.ascontiguousarray(image[..., ::-1]), outputs=("overlay",), pixel_format="rgb"
        )
        assert np.array_equal(bgr.overlay(), rgb.overlay()[..., ::-1])
        del bgr, rgb
