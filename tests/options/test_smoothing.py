"""Smoothing as a segmenter does it: which frame follows which, and what becomes of the labels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import segedge
from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.options.frame import FrameOptions
from segedge.options.sliding import Slide
from segedge.options.smoothing import STREAMS_KEPT, WARM_UP, Smoothing, Step, Streams
from segedge.segment.segmenter import Segmenter

CARD = ModelCard(("night", "dusk", "day"), ((0, 0, 0), (0, 0, 255), (0, 255, 0)), 48, 64, stride=8)
NIGHT, DUSK, DAY = range(3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strength": 1.0}, "at least 0 and below 1"),
        ({"strength": -0.1}, "at least 0 and below 1"),
        ({"strength": float("nan")}, "at least 0 and below 1"),
        ({"tolerance": 0.0}, "tolerance of smoothing must be above 0"),
        ({"margin": -1.0}, "margin of smoothing must be above 0"),
        ({"margin": float("inf")}, "margin of smoothing must be above 0"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Smoothing(**fields)  # type: ignore[arg-type]


def frame_at(index: int, pts_seconds: float | None = None) -> Frame:
    return Frame(np.zeros((4, 4, 3), np.uint8), index, pts_seconds=pts_seconds)


def test_how_frames_follow_each_other() -> None:
    streams = Streams(Smoothing(strength=0.5), dict)
    first, step = streams.step(frame_at(0, 1.0), 0, (4, 4))
    assert step == Step(0.0, True)
    same, step = streams.step(frame_at(1, 1.04), 0, (4, 4))
    assert same is first
    assert step.kept == pytest.approx(0.5)
    assert streams.step(frame_at(3, 1.12), 0, (4, 4))[1].kept == pytest.approx(0.25)
    assert streams.step(frame_at(4, 1.12), 0, (4, 4))[1].afresh, "time stands still"
    assert streams.step(frame_at(5, 9.0), 0, (4, 4))[1].afresh, "a long gap"
    assert streams.step(frame_at(2, 9.04), 0, (4, 4))[1].afresh, "another iteration"
    assert streams.step(frame_at(3, 9.08), 0, (8, 4))[1].afresh, "another size"
    assert streams.step(frame_at(4), 0, (8, 4))[1].kept == pytest.approx(0.5), "no clock"
    assert streams.step(frame_at(4), 7, (8, 4))[1].afresh, "another stream"
    streams.reset(0)
    assert streams.get(0) is None


def test_the_stream_that_was_silent_for_longest_is_forgotten() -> None:
    streams = Streams(Smoothing(), dict)
    for number in range(STREAMS_KEPT):
        streams.step(frame_at(0), number, ())
    streams.step(frame_at(1), 0, ())
    streams.step(frame_at(0), STREAMS_KEPT, ())
    assert streams.get(1) is None
    assert streams.get(0) is not None


def segmenter_of(smoothing: Smoothing | None) -> Segmenter:
    return Segmenter(CARD, FakeBackend(CARD), threads=1, options=FrameOptions(smoothing=smoothing))


def run(
    images: list[NDArray[Any]], smoothing: Smoothing | None
) -> tuple[list[NDArray[Any]], dict[str, float] | None]:
    """Labels of each frame, and the flicker figure."""
    with segmenter_of(smoothing) as segmenter:
        frames = [Frame(image, n, pts_seconds=n / 25) for n, image in enumerate(images)]
        labels = [segmenter(frame).labels for frame in frames]
        counted = segmenter.flicker()
        return labels, None if counted is None else counted.shares()


def noisy(count: int) -> list[NDArray[np.uint8]]:
    """A still picture between two classes, and a little noise that tips it over."""
    rng = np.random.default_rng(0)
    with segmenter_of(None) as segmenter:
        levels = [
            int(segmenter(np.full((48, 64, 3), v, np.uint8)).labels[24, 32]) for v in range(256)
        ]
    border = int(np.flatnonzero(np.diff(levels))[0])
    return [
        np.full((48, 64, 3), border, np.uint8)
        + rng.integers(0, 2, (6, 8)).repeat(8, 0).repeat(8, 1)[..., None].astype(np.uint8)
        for _ in range(count)
    ]


def test_still_noise_flickers_less_and_is_counted() -> None:
    images = noisy(30)
    plain, _ = run(images, None)
    counted_only, figures = run(images, Smoothing(strength=0.0, flicker=True))
    assert all(np.array_equal(a, b) for a, b in zip(plain, counted_only, strict=True))
    assert figures is not None
    assert figures["changed"] == figures["changed_before"] > 0.2
    steady, smoothed = run(images, Smoothing(flicker=True))
    assert smoothed is not None
    assert smoothed["changed_before"] == figures["changed_before"]
    assert smoothed["changed"] < 0.5 * smoothed["changed_before"]
    assert smoothed["returned"] < 0.5 * smoothed["returned_before"]
    changes = [np.mean([np.mean(a != b) for a, b in pairwise(v)]) for v in (plain, steady)]
    assert changes[1] < 0.5 * changes[0]


def test_behind_a_moving_thing_nothing_is_left() -> None:
    images = []
    for number in range(8):
        image = np.zeros((48, 64, 3), np.uint8)
        image[16:32, 8 * number : 8 * number + 8] = 255
        images.append(image)
    plain, _ = run(images, None)
    smoothed, _ = run(images, Smoothing(strength=0.99))
    for wanted, found in zip(plain, smoothed, strict=True):
        assert np.array_equal(found, wanted)


def test_after_a_cut_the_past_is_gone() -> None:
    dark, bright = np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 255, np.uint8)
    with (
        segmenter_of(Smoothing(strength=0.99, tolerance=100.0)) as segmenter,
        segmenter_of(None) as plain,
    ):
        for number in range(5):
            segmenter(Frame(dark, number))
        found = segmenter(Frame(bright, 5)).logits
        np.testing.assert_array_equal(found, plain(bright).logits)


def test_frames_of_no_stream_and_warming_up_leave_no_trace() -> None:
    images = noisy(2)
    with segmenter_of(Smoothing(flicker=True)) as segmenter, segmenter_of(None) as plain:
        segmenter.warm_up(Size(48, 64))
        assert segmenter.flicker() is None
        assert segmenter.flicker(WARM_UP) is None
        for image in images:
            alone = segmenter(Frame(image, stream=None))
            np.testing.assert_array_equal(alone.logits, plain(image).logits)
        assert segmenter.flicker() is None


def test_images_are_no_video(tmp_path: Path) -> None:
    images = noisy(4)
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    with segmenter_of(Smoothing(strength=0.99)) as segmenter, segmenter_of(None) as plain:
        for frame, result in segedge.stream(segmenter, str(tmp_path)):
            np.testing.assert_array_equal(result.logits, plain(frame.image_hwc).logits)


def test_what_cannot_be_smoothed_is_refused() -> None:
    labels = CARD.replace(head="labels")
    with pytest.raises(UsageError, match="gives labels cannot be smoothed"):
        Segmenter(labels, FakeBackend(labels), options=FrameOptions(smoothing=Smoothing()))
    with pytest.raises(UsageError, match="sliding windows"):
        Segmenter(
            CARD, FakeBackend(CARD), options=FrameOptions(smoothing=Smoothing(), slide=Slide())
        )
