"""Motion found on images whose motion is known."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from segedge.card.geometry import Size
from segedge.errors import UsageError
from segedge.motion.chain import composed, turned_around
from segedge.motion.field import MotionField
from segedge.motion.flow import Flow
from segedge.motion.grey import blocks_of, grey_of, grey_size, one_thread
from tests.motion.pictures import FRAME, picture, shifted


@pytest.mark.parametrize("shift", [(0, 0), (6, -4), (-12, 8), (2.5, 1.5)])
def test_flow_finds_a_shift(shift: tuple[float, float]):
    key, now = picture(), shifted(picture(), shift)
    field = Flow().field(grey_of(now), grey_of(key), FRAME)
    inner = field.displacement[4:-4, 4:-4]
    assert np.abs(np.median(inner, axis=(0, 1)) - shift).max() < 0.5
    assert field.residual[4:-4, 4:-4].mean() < 3.0
    assert field.explained > 0.9


def test_a_cut_is_not_explained():
    field = Flow().field(grey_of(picture(seed=1)), grey_of(picture(seed=2)), FRAME)
    same = Flow().field(grey_of(picture(seed=1)), grey_of(shifted(picture(seed=1), (5, 3))), FRAME)
    assert field.explained < 0.6 < 0.9 < same.explained


@pytest.mark.parametrize("frame", [Size(1, 1), Size(3, 500), Size(16, 16), Size(2000, 90)])
def test_frames_of_any_size_have_a_field(frame: Size):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (frame.height, frame.width, 3), np.uint8) for _ in range(2)]
    greys = [grey_of(image) for image in images]
    field = Flow().field(*greys, frame)
    assert greys[0].shape == (grey_size(frame).height, grey_size(frame).width)
    assert field.blocks == blocks_of(greys[0])
    assert np.isfinite(field.displacement).all()


def test_opencv_has_its_threads_back():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with one_thread():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(10)
    with one_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 1  # the other one is still inside
    leave.set()
    thread.join()
    assert cv2.getNumThreads() == 3
    cv2.setNumThreads(before)


def test_flow_in_several_threads_is_the_same():
    flow, grey, key = Flow(), grey_of(shifted(picture(), (4, 2))), grey_of(picture())
    expected = flow.field(grey, key, FRAME)
    found: list[MotionField] = []

    def work() -> None:
        for _ in range(5):
            found.append(flow.field(grey, key, FRAME))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 15
    assert all(np.array_equal(f.displacement, expected.displacement) for f in found)


def test_steps_are_put_behind_each_other_and_turned_around():
    y, x = np.mgrid[0:30, 0:40].astype(np.float32)
    frame = Size(240, 320)
    first = np.dstack([3 + 0.02 * x, 0.05 * y])
    constant = np.broadcast_to(np.float32([2.0, -1.0]), first.shape)
    np.testing.assert_allclose(composed(first, constant, frame), first + constant, atol=1e-4)
    back = turned_around(first, frame)
    there_and_back = composed(back, first, frame)
    assert np.abs(there_and_back[3:-3, 3:-3]).max() < 0.05


def test_a_field_holds_what_goes_together():
    with pytest.raises(UsageError, match="do not go together"):
        MotionField(np.zeros((2, 3, 2), np.float32), np.zeros((3, 2), np.float32), FRAME)
    with pytest.raises(UsageError, match="do not go together"):
        MotionField(np.zeros((2, 3, 2)), np.zeros((2, 3)), FRAME)
