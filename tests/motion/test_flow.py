"""Motion found on images whose motion is known."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from segedge.card.geometry import Size
from segedge.errors import UsageError
from segedge.motion.field import MotionField
from segedge.motion.flow import Flow
from segedge.motion.grey import Grey, grey_size, judged, one_thread
from tests.motion.pictures import FRAME, picture, shifted


@pytest.mark.parametrize("shift", [(0, 0), (6, -4), (-12, 8), (2.5, 1.5)])
def test_flow_finds_a_shift(shift: tuple[float, float]):
    before, grey = Grey.of(picture()), Grey.of(shifted(picture(), shift))
    field = judged(Flow().step(grey, before), grey, before)
    inner = field.displacement[8:-8, 8:-8]
    assert np.abs(np.median(inner, axis=(0, 1)) - shift).max() < 0.5
    assert field.residual[8:-8, 8:-8].mean() < 3.0
    assert field.explained > 0.9


def test_large_frames_are_measured_in_their_own_pixels():
    """The grey image is smaller than the frame, and of another shape by less than a block."""
    large = cv2.resize(picture(), (1022, 766), interpolation=cv2.INTER_CUBIC)
    before, grey = Grey.of(large), Grey.of(shifted(large, (24, -16)))
    step = Flow().step(grey, before)
    assert max(grey.smooth.shape) == 320
    np.testing.assert_allclose(np.median(step, axis=(0, 1)), [24, -16], atol=1.0)


@pytest.mark.parametrize("frame", [Size(1080, 1920), Size(2160, 3840), Size(720, 1280)])
def test_a_grey_image_is_the_mean_of_what_is_there(frame: Size):
    """Of a large frame some pixels are looked at, evenly spread: of each block the mean."""
    ramp = np.arange(frame.height)[:, None] * 90.0 / frame.height + np.linspace(
        0.0, 90.0, frame.width
    )
    colours = np.stack([ramp, ramp + 60.0, ramp + 20.0], axis=-1).astype(np.uint8)
    grey = Grey.of(colours)
    levels = colours @ np.array([0.114, 0.587, 0.299])
    rows, columns = grey.blocks.height, grey.blocks.width
    blocks = levels.reshape(rows, frame.height // rows, columns, frame.width // columns)
    assert np.abs(grey.means - blocks.mean(axis=(1, 3))).max() <= 1.5
    assert np.abs(grey.centres - blocks.mean(axis=(1, 3))).max() <= 1.5


def test_a_cut_is_not_explained():
    before, cut, same = (
        Grey.of(image)
        for image in (picture(seed=1), picture(seed=2), shifted(picture(seed=1), (5, 3)))
    )
    flow = Flow()
    assert judged(flow.step(cut, before), cut, before).explained < 0.5
    assert judged(flow.step(same, before), same, before).explained > 0.9


def test_another_exposure_is_explained():
    image = np.clip(picture(), 40, 200)
    before, grey = Grey.of(image), Grey.of(shifted(image, (5, 3)) + np.uint8(25))
    field = judged(Flow().step(grey, before), grey, before)
    assert field.explained > 0.9
    assert field.residual[8:-8, 8:-8].mean() < 3.0


@pytest.mark.parametrize("frame", [Size(1, 1), Size(3, 500), Size(16, 16), Size(2000, 90)])
def test_frames_of_any_size_have_a_field(frame: Size):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (frame.height, frame.width, 3), np.uint8) for _ in range(2)]
    grey, before = (Grey.of(image) for image in images)
    field = judged(Flow().step(grey, before), grey, before)
    assert grey.smooth.shape == (grey_size(frame).height, grey_size(frame).width)
    assert (field.blocks, field.frame) == (grey.blocks, frame)
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
    flow, grey, before = Flow(), Grey.of(shifted(picture(), (4, 2))), Grey.of(picture())
    expected = flow.step(grey, before)
    found: list[np.ndarray] = []

    def work() -> None:
        for _ in range(5):
            found.append(flow.step(grey, before))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 15
    assert all(np.array_equal(step, expected) for step in found)


def test_a_field_holds_what_goes_together():
    with pytest.raises(UsageError, match="do not go together"):
        MotionField(np.zeros((2, 3, 2), np.float32), np.zeros((3, 2), np.float32), FRAME)
    with pytest.raises(UsageError, match="do not go together"):
        MotionField(np.zeros((2, 3, 2)), np.zeros((2, 3)), FRAME)
