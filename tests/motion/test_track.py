"""Steps put one behind the other."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

from segedge.card.geometry import Size
from segedge.frames.frame import Frame
from segedge.motion.chain import composed, turned_around
from segedge.motion.field import MotionField
from segedge.motion.track import Seen, Tracker
from tests.motion.pictures import picture, shifted
from tests.motion.test_vectors import records

STEP = (3.0, -2.0)


def pan(count: int, tracker: Tracker | None = None) -> tuple[Tracker, list[Seen]]:
    """A camera that pans."""
    tracker = tracker or Tracker("flow")
    images = [shifted(picture(), (STEP[0] * i, STEP[1] * i)) for i in range(count)]
    return tracker, [tracker.see(Frame(image)) for image in images]


@pytest.mark.parametrize(("start", "end"), [(3, 0), (1, 0), (1, 4), (3, 4), (2, 2)])
def test_motion_over_several_frames(start: int, end: int):
    tracker, seen = pan(5)
    field = tracker.field(seen, start, end)
    expected, far = np.array(STEP) * (start - end), abs(start - end)
    found = np.median(field.displacement, axis=(0, 1))
    np.testing.assert_allclose(found, expected, atol=0.2 * far + 1e-6)
    assert field.explained > 0.9


def test_every_step_is_found_once(monkeypatch: pytest.MonkeyPatch):
    """Whoever asks for what, in any order, in several threads."""
    tracker, seen = pan(6)
    calls = []
    found = tracker._flow.step
    monkeypatch.setattr(tracker._flow, "step", lambda *two: calls.append(two) or found(*two))
    fields: list[MotionField] = []

    def ask(start: int, end: int) -> None:
        fields.append(tracker.field(seen, start, end))

    pairs = [(n, 0) for n in range(1, 6)] + [(n, 5) for n in range(1, 5)]
    threads = [threading.Thread(target=ask, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fields) == len(pairs)
    assert len(calls) == 5


def test_the_order_of_asking_changes_nothing():
    (one, first), (two, second) = pan(5), pan(5)
    for number in range(1, 5):
        one.field(first, number, 0)
    np.testing.assert_array_equal(
        one.field(first, 4, 0).displacement, two.field(second, 4, 0).displacement
    )


def test_a_key_may_be_another_one_from_then_on():
    """Live, the network is done with a frame that others have followed since."""
    tracker, seen = pan(6)
    tracker.field(seen, 4, 0)
    found = tracker.field(seen[2:], 3, 0)
    expected = np.array(STEP) * 3
    np.testing.assert_allclose(np.median(found.displacement, axis=(0, 1)), expected, atol=0.6)


def test_frames_that_have_passed_are_let_go():
    tracker = Tracker("flow")
    watched = []
    key = tracker.see(Frame(picture()))
    passed: list[Seen] = []
    for number in range(1, 60):
        passed.append(tracker.see(Frame(shifted(picture(), (number % 5, 0)))))
        watched.append(weakref.ref(passed[-1]))
        tracker.field([key, *passed], len(passed), 0)
        if number % 6 == 0:  # another key
            key = passed[-1]
            passed.clear()
    del passed, key
    gc.collect()
    assert sum(ref() is not None for ref in watched) <= 33


def test_the_codec_is_believed_and_flow_helps_out():
    tracker = Tracker("codec")
    frames = [Frame(shifted(picture(), (3 * i, 2 * i))) for i in range(3)]
    frames[1].motion_vectors = records((3, 2))
    seen = [tracker.see(frame) for frame in frames]
    assert frames[1].motion_vectors is None
    exact = tracker.field(seen, 1, 0).displacement
    np.testing.assert_array_equal(exact, np.broadcast_to(np.float32([3, 2]), exact.shape))
    both = tracker.field(seen, 2, 0).displacement
    np.testing.assert_allclose(np.median(both, axis=(0, 1)), [6, 4], atol=0.4)
    assert (tracker.asked, tracker.answered) == (2, 1)


def test_steps_are_put_behind_each_other_and_turned_around():
    y, x = np.mgrid[0:30, 0:40].astype(np.float32)
    frame = Size(240, 320)
    first = np.dstack([3 + 0.02 * x, 0.05 * y])
    constant = np.broadcast_to(np.float32([2.0, -1.0]), first.shape)
    np.testing.assert_allclose(composed(first, constant, frame), first + constant, atol=1e-4)
    back = turned_around(first, frame)
    assert np.abs(composed(back, first, frame)[3:-3, 3:-3]).max() < 0.05
