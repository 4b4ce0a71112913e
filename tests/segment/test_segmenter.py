"""Segmenter and Result: the fast path around a network equals the reference around it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from segedge.backends.base import TensorSpec
from segedge.backends.fake import FakeBackend
from segedge.card.geometry import Geometry, Size
from segedge.errors import BackendError, CardError, UsageError
from segedge.frames.frame import Frame
from segedge.options.frame import FrameOptions
from segedge.options.style import OverlayStyle
from segedge.reference import frame as reference
from segedge.segment.segmenter import Segmenter
from tests.brightness import CARD, CLASSES, PALETTE, image_of


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(48, 64), (97, 131), (30, 200)])
def test_the_whole_frame_equals_the_reference(fit: str, size: tuple[int, int]) -> None:
    card = CARD.replace(fit=fit)
    image = image_of(*size)
    with Segmenter(card, FakeBackend(card), threads=2) as segmenter:
        result = segmenter(image, outputs=("labels", "overlay", "class_pixels", "confidence"))
    geometry = Geometry.fit(Size(*size), card.input_size, card.fit)
    tensor = reference.preprocess(image, card, geometry)
    (logits,) = FakeBackend(card).run([tensor.astype(np.float32)])
    expected = reference.labels(logits, card, geometry)
    clear = ~reference.ambiguous(logits, card, geometry)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(result.labels[clear], expected[clear])
    counts = reference.class_pixels(result.labels, 4)
    assert result.class_pixels == dict(zip(CLASSES, counts.tolist(), strict=True))
    seen = result.labels < 4  # what a crop cuts off counts for nothing
    assert sum(result.class_shares.values()) == pytest.approx(seen.mean())
    half = np.array(PALETTE, float)[:, ::-1][np.minimum(result.labels, 3)] * 0.5 + image * 0.5
    half[~seen] = image[~seen]
    assert np.abs(result.overlay() - half).max() <= 1.0
    sure = reference.confidence(logits, card, geometry)
    assert result.mean_confidence == pytest.approx(sure.mean(dtype=np.float64), abs=1e-5)
    np.testing.assert_allclose(result.confidence, sure, atol=2e-5, rtol=1e-5)
    assert (result.margin >= 0).all()


def test_the_mean_of_a_confidence_asked_for_alone() -> None:
    card, image = CARD.replace(fit="letterbox"), image_of(30, 200)
    with Segmenter(card, FakeBackend(card)) as segmenter:
        result = segmenter(image, outputs=("mean_confidence",))
        geometry = Geometry.fit(Size(30, 200), card.input_size, card.fit)
        sure = reference.confidence(result.logits, card, geometry)
        assert result.mean_confidence == pytest.approx(sure.mean(dtype=np.float64), abs=1e-5)


def test_nothing_is_computed_before_it_is_asked_for_and_then_kept() -> None:
    card = CARD
    with Segmenter(card, FakeBackend(card)) as segmenter:
        result = segmenter(image_of(60, 80))
        assert "tail" not in result.times.milliseconds
        first = result.labels
        assert result.labels is first
        assert result.overlay() is result.overlay()
        assert set(result.times.milliseconds) == {"preprocess", "network", "tail"}


def test_results_own_their_arrays() -> None:
    """A result kept while other frames are segmented does not change."""
    card = CARD
    with Segmenter(card, FakeBackend(card)) as segmenter:
        kept = segmenter(image_of(60, 80, seed=1), outputs=("labels", "overlay"))
        labels, overlay, logits = kept.labels.copy(), kept.overlay().copy(), kept.logits.copy()
        for seed in range(2, 12):
            segmenter(image_of(60, 80, seed=seed), outputs=("labels", "overlay"))
        np.testing.assert_array_equal(kept.labels, labels)
        np.testing.assert_array_equal(kept.overlay(), overlay)
        np.testing.assert_array_equal(kept.logits, logits)


def test_steady_state_uses_the_same_memory_again() -> None:
    card = CARD
    addresses = set()
    with Segmenter(card, FakeBackend(card)) as segmenter:
        for seed in range(10):
            result = segmenter(image_of(60, 80, seed=seed), outputs=("labels",))
            addresses.add(result.labels.ctypes.data)
            del result
    assert len(addresses) == 1


def test_frames_may_change_size() -> None:
    card = CARD
    with Segmenter(card, FakeBackend(card)) as segmenter:
        for height in (10, 20, 30, 40, 50, 60, 10):
            assert segmenter(image_of(height, 2 * height)).labels.shape == (height, 2 * height)


def test_results_may_be_read_in_other_threads_while_frames_go_on() -> None:
    card = CARD
    failures: list[BaseException] = []
    with Segmenter(card, FakeBackend(card), threads=2) as segmenter:

        def read(result: object, expected: NDArray[np.uint8]) -> None:
            try:
                np.testing.assert_array_equal(result.labels, expected)  # type: ignore[attr-defined]
            except BaseException as error:
                failures.append(error)

        images = [image_of(60, 80, seed=seed) for seed in range(12)]
        truth = [segmenter(image).labels.copy() for image in images]
        threads = []
        for image, expected in zip(images, truth, strict=True):
            thread = threading.Thread(target=read, args=(segmenter(image), expected))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()
    assert not failures


def test_style_filters_classes_and_draws_a_legend() -> None:
    card = CARD
    image = image_of(120, 160)
    style = OverlayStyle(opacity=1.0, classes=("day",))
    with Segmenter(card, FakeBackend(card), options=FrameOptions(style=style)) as segmenter:
        result = segmenter(image)
        overlay = result.overlay()
        day = result.labels == 2
        assert day.any()
        assert not day.all()
        assert (overlay[day] == (0, 255, 0)).all()
        np.testing.assert_array_equal(overlay[~day], image[~day])
        with_legend = result.overlay(OverlayStyle(opacity=1.0, classes=("day",), legend=True))
        changed = (with_legend != overlay).any(axis=2)
        assert changed.any()
        assert not changed[:40].any(), "the legend stays in the lower left"
        # The boxes are opaque; the dark class 0 is left out, its black may be the panel's.
        boxes = with_legend[60:, :80].reshape(-1, 3).tolist()
        named = [label for label in (1, 2, 3) if list(card.palette_rgb[label][::-1]) in boxes]
        assert named == [2], "only coloured classes are named"


def test_unknown_classes_and_opacities_are_refused() -> None:
    card = CARD
    with pytest.raises(UsageError, match="did you mean 'dusk'"):
        OverlayStyle(classes=("dask",)).check(card)
    with pytest.raises(UsageError, match=r"within 0\.\.1, found 1\.5"):
        OverlayStyle(opacity=1.5)
    with Segmenter(card, FakeBackend(card)) as segmenter:
        result = segmenter(image_of(20, 20))
        with pytest.raises(UsageError, match="no output 'label'; did you mean 'labels'"):
            result.compute(["label"])


def test_parts_and_places_on_the_cpu() -> None:
    card = CARD
    with Segmenter(card, FakeBackend(card)) as segmenter:
        result = segmenter(image_of(40, 50))
        np.testing.assert_array_equal(result.labels_of(3, 7, 20, 30), result.labels[3:23, 7:37])
        with pytest.raises(UsageError, match="leaves the frame"):
            result.labels_of(30, 0, 20, 10)
        with pytest.raises(UsageError, match="labels is not on the GPU"):
            result.on_device("labels")


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image: NDArray[np.uint8]) -> None:
    card = CARD
    with Segmenter(card, FakeBackend(card)) as segmenter, pytest.raises(UsageError) as caught:
        segmenter(image)
    assert str(image.dtype) in caught.value.facts["found"]


def test_card_and_network_must_agree() -> None:
    card = CARD
    other = CARD.replace(classes=CLASSES[:3], palette_rgb=PALETTE[:3])
    with pytest.raises(CardError, match="does not fit the network's output") as caught:
        Segmenter(other, FakeBackend(card))
    assert "3 channels" in caught.value.facts["expected"]


def test_two_outputs_need_a_name() -> None:
    card = CARD
    backend = FakeBackend(card)
    main = backend.specs[1][0]
    backend.specs = (backend.specs[0], (main, TensorSpec("aux", "float32", main.shape)))
    with pytest.raises(CardError, match="2 outputs and the card names none"):
        Segmenter(card, backend)
    Segmenter(card.replace(output="logits"), backend).close()


def test_device_backends_are_refused() -> None:
    card = CARD
    backend = FakeBackend(card)
    backend.memory = "cuda"
    with pytest.raises(BackendError, match="takes host backends"):
        Segmenter(card, backend)


def test_a_network_that_gives_labels() -> None:
    card = CARD.replace(head="labels", stride=8)

    def network(tensor: NDArray[np.float32]) -> NDArray[np.int64]:
        rows = np.arange(6)[:, None] % 4
        return np.broadcast_to(rows, (6, 8))[None].astype(np.int64).copy()

    with Segmenter(card, FakeBackend(card, network=network)) as segmenter:
        labels = segmenter(image_of(48, 64)).labels
    np.testing.assert_array_equal(labels[4::8, 0], np.arange(6) % 4)


def test_stream_keeps_order_and_frames_carry_their_times() -> None:
    card = CARD
    frames = [Frame(image_of(30, 40, seed=i), index=i) for i in range(5)]
    with Segmenter(card, FakeBackend(card)) as segmenter:
        results = list(segmenter.stream(frames, outputs=("labels",)))
    assert [result.frame.index for result in results] == [0, 1, 2, 3, 4]
    assert all("network" in result.times.milliseconds for result in results)


def test_a_result_shows_itself_in_a_notebook() -> None:
    card = CARD
    with Segmenter(card, FakeBackend(card)) as segmenter:
        assert segmenter(image_of(20, 20))._repr_png_().startswith(b"\x89PNG")
