"""Frames that the network does not see: in order, carried by motion, begun anew with a scene."""

from __future__ import annotations

import numpy as np
import pytest

from segedge.card.card import ModelCard
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.motion.pace import Pace
from segedge.options.frame import FrameOptions
from segedge.options.motion import MOST_HELD, Motion
from segedge.options.sliding import Slide
from segedge.options.smoothing import Smoothing
from tests.segment.pans import CARD, SIZE, keys_of, labels_by_network, pan, run, scene, segmenter


def test_every_frame_through_the_network_is_as_without() -> None:
    frames = pan(5)
    shown, _, moving = run(frames, Motion(every=1))
    assert keys_of(shown) == [0, 1, 2, 3, 4]
    for (_, result), expected in zip(shown, labels_by_network(frames), strict=True):
        np.testing.assert_array_equal(result.labels, expected)
    assert moving.summary.to_dict()["network_frames"] == 5


@pytest.mark.parametrize("every", [2, 3, 4])
@pytest.mark.parametrize("live", [False, True])
def test_carried_labels_follow_the_camera(every: int, live: bool) -> None:
    frames = pan(13)
    shown, _, moving = run(frames, Motion(every=every, independent=False), live=live)
    assert [frame.index for frame, _ in shown] == list(range(13))
    ends = [] if live or 12 % every == 0 else [12]
    assert keys_of(shown) == [*range(0, 13, every), *ends]
    truth = labels_by_network(frames)
    carried = [n for n in range(13) if n not in keys_of(shown)]
    same = np.mean([(shown[n][1].labels == truth[n]).mean() for n in carried])
    # Held labels are what the motion must beat.
    held = np.mean([(truth[every * (n // every)] == truth[n]).mean() for n in carried])
    assert same > 0.97
    assert 1 - same < (1 - held) / 2
    told = moving.summary.to_dict()
    assert told["frames"] == 13
    assert told["agreement"] > 0.97


def test_a_frame_that_nothing_explains_is_a_key_and_nothing_is_carried_over_a_cut() -> None:
    frames = [*pan(6, seed=1), *pan(6, seed=2, start=6)]
    shown, _, _ = run(frames, Motion(every=4))
    assert keys_of(shown) == [0, 4, 6, 10, 11]
    truth = labels_by_network(frames)
    for frame, result in shown:
        assert (result.labels == truth[frame.index]).mean() > 0.93
    assert shown[5][0].motion is not None
    assert shown[5][0].motion.frames == 1  # from the key before it alone


@pytest.mark.parametrize("kind", ["size", "gap", "back in time"])
def test_what_is_no_sequence_begins_anew(kind: str) -> None:
    second = pan(3, seed=1, start=3)
    for number, frame in enumerate(second):
        if kind == "size":
            frame.image_hwc = np.ascontiguousarray(frame.image_hwc[:90])
        elif kind == "gap":
            frame.pts_seconds = 60 + number / 25
        else:
            frame.pts_seconds = -10 + number / 25
    shown, _, _ = run([*pan(3, seed=1), *second], Motion(every=3))
    assert keys_of(shown) == [0, 2, 3, 5]
    assert len(shown) == 6


def noisy(frames: list[Frame], levels: int) -> list[Frame]:
    rng = np.random.default_rng(0)
    for frame in frames:
        grain = rng.integers(-levels, levels + 1, SIZE)[..., None]
        frame.image_hwc = np.clip(frame.image_hwc + grain, 0, 255).astype(np.uint8)
    return frames


@pytest.mark.parametrize("every", [1, 3])
def test_fusing_steadies_what_noise_changes(every: int) -> None:
    """Labels of a still scene with noise are nearer to those without."""
    still = [Frame(scene()[20:116, :128], n, pts_seconds=n / 25) for n in range(13)]
    (truth,) = labels_by_network(still[:1])
    frames = noisy(still, 12)
    wrong = {}
    for fuse in (0.0, 0.7):
        shown, _, _ = run(frames, Motion(every=every, fuse=fuse))
        wrong[fuse] = np.mean([(result.labels != truth).mean() for _, result in shown[4:]])
    assert wrong[0.7] < 0.9 * wrong[0.0]


def test_one_frame_and_none() -> None:
    assert run([], Motion(every=4))[0] == []
    shown, backend, _ = run(pan(1), Motion(every=4))
    assert keys_of(shown) == [0]
    assert backend.calls <= 2  # the first call also tells the shape


def test_confidence_counts_and_overlay_work_on_carried_frames() -> None:
    with segmenter(Motion(every=4)) as made:
        moving = made.moving(live=False)
        assert moving is not None
        outputs = ("overlay", "confidence", "class_pixels")
        shown = [pair for frame in pan(5) for pair in moving.push(frame, outputs)]
        shown += moving.end(outputs)
        assert len(shown) == 5
        moving.close()
        for _, result in shown:
            assert result.overlay().shape == (*SIZE, 3)
            assert sum(result.class_pixels.values()) == SIZE[0] * SIZE[1]
            assert 0.0 < result.confidence.min() <= result.confidence.max() <= 1.0


def test_auto_sees_a_still_scene_seldom_and_a_fast_one_often() -> None:
    still = [Frame(pan(1)[0].image_hwc, n, pts_seconds=n / 25) for n in range(60)]
    fast = pan(30, step=9)
    seldom = len(keys_of(run(still, Motion(every="auto"))[0]))
    often = len(keys_of(run(fast, Motion(every="auto", agreement=0.999))[0]))
    assert seldom <= 60 // MOST_HELD + 4
    assert often > 2 * seldom * 30 / 60


def test_the_pace_doubles_at_most_falls_at_once_and_keeps_the_gap() -> None:
    pace = Pace(Motion(every="auto", agreement=0.96, gap_seconds=0.5), most=None)
    assert pace.distance(25.0) == 2
    for _ in range(6):
        pace.measured(1.0, pace.distance(25.0))
    assert pace.distance(25.0) == 12  # 0.5 s of 25 frames
    pace.measured(0.5, 12)
    assert pace.distance(25.0) == 1
    pace.measured(None, 1)
    assert pace.distance(25.0) == 1
    pace.new_scene()
    assert pace.distance(25.0) == 2


def test_a_fixed_distance_stays() -> None:
    pace = Pace(Motion(every=4))
    pace.measured(0.2, 4)
    pace.new_scene()
    assert pace.distance(None) == 4


REFUSED = {
    "every 0": (lambda: Motion(every=0), "must see every frame or every so many, found 0"),
    "every 13": (lambda: Motion(every=13), "at most every 12th frame"),
    "source": (lambda: Motion(source="flo"), "source of motion"),  # type: ignore[arg-type]
    "agreement": (lambda: Motion(agreement=0.2), "within 0.5..1, found 0.2"),
    "gap": (lambda: Motion(gap_seconds=0.0), "above 0 and at most 60 seconds, found 0"),
    "fuse": (lambda: Motion(fuse=1.0), "at least 0 and below 1, found 1"),
    "windows": (
        lambda: FrameOptions(motion=Motion(), slide=Slide()),
        "sliding windows are not carried",
    ),
    "smoothing": (
        lambda: FrameOptions(motion=Motion(), smoothing=Smoothing()),
        "smoothing needs every frame",
    ),
    "labels": (
        lambda: Motion().check(
            ModelCard(CARD.classes, CARD.palette_rgb, 96, 128, stride=1, head="labels")
        ),
        "a network that gives labels cannot be carried",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(UsageError, match=words):
        make()
