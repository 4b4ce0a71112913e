"""Carried frames on the simulated driver: what the host says, over several streams and slots."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from segedge.backends.fake import FakeBackend
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.card import ModelCard
from segedge.cuda.runtime.device import Device
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.options.frame import FrameOptions
from segedge.options.motion import Motion
from segedge.segment.on_gpu import CudaSegmenter
from segedge.segment.segmenter import Segmenter

CLASSES = ("night", "dusk", "day", "glare")
PALETTE = ((0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0))
CARD = ModelCard(CLASSES, PALETTE, 48, 64, stride=8)
MOTION = Motion(every=3, independent=False)


def pan(count: int) -> list[Frame]:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (9, 18, 3), dtype=np.uint8)
    whole = cv2.resize(small, (200, 96), interpolation=cv2.INTER_CUBIC)
    return [
        Frame(np.ascontiguousarray(whole[10:74, 2 * n : 2 * n + 90]), n, pts_seconds=n / 25)
        for n in range(count)
    ]


def shown(segmenter: Any, count: int, *, live: bool) -> list[Any]:
    moving = segmenter.moving(live=live)
    outputs = ("labels", "overlay", "class_pixels")
    pairs = [pair for frame in pan(count) for pair in moving.push(frame, outputs)]
    return [*pairs, *moving.end(outputs)]


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("slots", [1, 2])
def test_a_video_equals_the_host(device: Device, slots: int, live: bool, graphs: bool) -> None:
    options = FrameOptions(motion=MOTION)
    with Segmenter(CARD, FakeBackend(CARD), threads=1, options=options) as host:
        wanted = shown(host, 8, live=live)
    backend = FakeCudaBackend(CARD, device)
    with CudaSegmenter(CARD, backend, slots=slots, graphs=graphs, options=options) as segmenter:
        found = shown(segmenter, 8, live=live)
        assert [frame.index for frame, _ in found] == list(range(8))
        for (frame, result), (frame_then, expected) in zip(found, wanted, strict=True):
            assert frame.motion is not None
            assert frame_then.motion is not None
            assert frame.motion.is_key == frame_then.motion.is_key
            if frame.motion.agreement is not None:
                assert frame.motion.agreement == pytest.approx(frame_then.motion.agreement)
            clear = expected.confidence > 0.3  # half floats of the fake network round
            assert (result.labels == expected.labels)[clear].mean() > 0.995
            assert np.abs(result.overlay().astype(int) - expected.overlay())[clear].mean() < 1.0
            assert sum(result.class_pixels.values()) == result.labels.size
        assert segmenter.notes == ()
        del found, result


def test_what_a_gpu_cannot_do_is_refused(device: Device) -> None:
    with (
        CudaSegmenter(
            CARD, FakeCudaBackend(CARD, device), options=FrameOptions(motion=Motion(fuse=0.5))
        ) as segmenter,
        pytest.raises(UsageError, match="not fused on a GPU"),
    ):
        segmenter.moving(live=False)
