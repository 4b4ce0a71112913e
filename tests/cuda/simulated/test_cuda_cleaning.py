"""Cleaning in CudaSegmenter on the simulated driver: as on the host, in a frame's one launch."""

from __future__ import annotations

import numpy as np
import pytest
from driver.simulated import Control
from numpy.typing import NDArray

from segedge.backends.fake import FakeBackend
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.cpu.regions.clean import clean
from segedge.cuda.foreign import Nv12Frame
from segedge.cuda.runtime.device import Device
from segedge.errors import UsageError
from segedge.options.cleaning import Cleaning
from segedge.options.effect import Effect
from segedge.options.frame import FrameOptions
from segedge.options.style import OverlayStyle
from segedge.segment.on_gpu import CudaSegmenter
from segedge.segment.segmenter import Segmenter
from tests.brightness import CARD

CLEANINGS = [
    Cleaning(60, connectivity=8),
    Cleaning({"dusk": 200}, fill_holes=400),
    Cleaning(majority=5),
    Cleaning(40, majority=3, fill_holes=80),
]


def noise_of(seed: int, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Blocks of every brightness: many small regions."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 1), dtype=np.uint8)
    blocks = small.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    return np.ascontiguousarray(blocks.repeat(3, 2))


def plain_labels(device: Device, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the GPU gives without cleaning: ties fall as they do there."""
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        return np.array(segmenter(image, outputs=("labels",)).labels)


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("cleaning", CLEANINGS, ids=str)
def test_labels_overlay_and_counts_are_those_of_the_cleaned_map(
    device: Device, cleaning: Cleaning, graphs: bool
) -> None:
    style = OverlayStyle(1.0)
    palette = np.array(CARD.palette_rgb, np.uint8)[:, ::-1]
    changed = 0
    with CudaSegmenter(
        CARD,
        FakeCudaBackend(CARD, device),
        options=FrameOptions(style=style, cleaning=cleaning),
        graphs=graphs,
    ) as segmenter:
        for seed in range(3):  # plain, captured, replayed
            image = noise_of(seed, (70, 91))
            plain = plain_labels(device, image)
            wanted = clean(plain, cleaning, CARD.classes)
            changed += int((wanted != plain).sum())
            result = segmenter(image, outputs=("labels", "overlay", "class_pixels", "confidence"))
            np.testing.assert_array_equal(result.labels, wanted)
            np.testing.assert_array_equal(result.overlay(), palette[wanted])
            counts = np.bincount(wanted.ravel(), minlength=len(CARD.classes)).tolist()
            assert list(result.class_pixels.values()) == counts
            with Segmenter(
                CARD, FakeBackend(CARD), threads=1, options=FrameOptions(cleaning=cleaning)
            ) as host:
                np.testing.assert_allclose(result.confidence, host(image).confidence, atol=2e-3)
            del result
        assert segmenter.notes == ()
    assert changed > 0


def test_a_cleaned_frame_is_one_launch(device: Device, sim: Control) -> None:
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), slots=1, options=FrameOptions(cleaning=CLEANINGS[3])
    ) as segmenter:
        segmenter(noise_of(0), outputs=("labels",)).wait()
        launches, graphs = sim.counter("launches"), sim.counter("graph_launches")
        for seed in range(1, 4):
            segmenter(noise_of(seed), outputs=("labels",)).wait()
        assert sim.counter("graph_launches") == graphs + 3
        assert sim.counter("launches") == launches


def test_what_is_asked_for_later_is_cleaned_too(device: Device) -> None:
    image, cleaning = noise_of(5), CLEANINGS[0]
    wanted = clean(plain_labels(device, image), cleaning, CARD.classes)
    with CudaSegmenter(
        CARD, FakeCudaBackend(CARD, device), options=FrameOptions(cleaning=cleaning)
    ) as segmenter:
        result = segmenter(image, outputs=())
        outline = result.picture(Effect("outline"))
        np.testing.assert_array_equal(result.labels_of(5, 9, 20, 31), wanted[5:25, 9:40])
        np.testing.assert_array_equal(result.labels, wanted)
        assert sum(result.class_pixels.values()) == wanted.size
        with Segmenter(
            CARD, FakeBackend(CARD), threads=1, options=FrameOptions(cleaning=cleaning)
        ) as host:
            found = np.abs(outline.astype(int) - host(image).picture(Effect("outline")))
            assert np.mean(found > 0) < 0.02  # ties
        del result


def test_nv12_frames(device: Device) -> None:
    luma, chroma = noise_of(1)[..., 0].copy(), np.full((24, 64), 128, np.uint8)
    style = OverlayStyle(1.0)
    with CudaSegmenter(
        CARD,
        FakeCudaBackend(CARD, device),
        options=FrameOptions(style=style, cleaning=Cleaning(10**6, fill_holes=10**6)),
    ) as segmenter:
        result = segmenter(Nv12Frame(luma, chroma), outputs=("overlay", "labels"))
        assert result.overlay().shape == (72, 64)
        del result


def test_unknown_classes_are_refused(device: Device) -> None:
    with pytest.raises(UsageError, match="no class 'dust'; did you mean 'dusk'"):
        CudaSegmenter(
            CARD,
            FakeCudaBackend(CARD, device),
            options=FrameOptions(cleaning=Cleaning({"dust": 9})),
        )
