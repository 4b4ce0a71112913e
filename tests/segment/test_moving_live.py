"""Motion on a live source: frames do not wait for the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from segedge.backends.fake import FakeBackend
from segedge.errors import BackendError
from segedge.frames.frame import Frame
from segedge.options.motion import Motion
from segedge.segment.moving import Moving
from segedge.segment.moving_live import LiveMoving
from segedge.segment.result import Result
from tests.segment.pans import CARD, labels_by_network, pan, segmenter

WAIT_SECONDS = 30.0


class Gate:
    """A network that waits until it may go on."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.fails = False
        self._network = FakeBackend(CARD)._network

    def __call__(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        self.entered.release()
        assert self.open.wait(WAIT_SECONDS)
        if self.fails:
            raise BackendError("the network broke")
        return self._network(tensor)


@pytest.fixture
def gated() -> Iterator[tuple[Gate, LiveMoving]]:
    gate = Gate()
    with segmenter(Motion(every=1), FakeBackend(CARD, network=gate)) as made:
        moving = made.moving(live=True)
        assert isinstance(moving, LiveMoving)
        yield gate, moving
        gate.open.set()
        moving.close()


def push_one(moving: Moving, frame: Frame) -> tuple[Frame, Result]:
    (shown,) = moving.push(frame, ("labels",))
    return shown


def begin(moving: LiveMoving, frames: list[Frame]) -> list[tuple[Frame, Result]]:
    """The first of a scene, once the network has had it, and the next one with it."""
    assert list(moving.push(frames[0], ("labels",))) == []
    assert moving._first is not None
    moving._first.result(WAIT_SECONDS)
    return list(moving.push(frames[1], ("labels",)))


def await_network(gate: Gate, moving: LiveMoving) -> None:
    """Let the network finish what it has."""
    gate.open.set()
    looking = moving._looking
    assert looking is not None
    looking.exception(WAIT_SECONDS)


def test_live_frames_do_not_wait_for_the_network(gated: tuple[Gate, LiveMoving]) -> None:
    gate, moving = gated
    frames = pan(12)
    assert list(moving.push(frames[0], ("labels",))) == []
    assert moving._first is not None
    moving._first.result(WAIT_SECONDS)
    gate.open.clear()
    (key, _), _ = moving.push(frames[1], ("labels",))
    assert key.motion is not None
    assert key.motion.is_key
    truth = labels_by_network(frames)
    for frame in frames[2:6]:  # the network has frame 1 all the while
        shown, result = push_one(moving, frame)
        assert shown.motion is not None
        assert shown.motion.frames == frame.index
        assert (result.labels == truth[frame.index]).mean() > 0.95
    await_network(gate, moving)
    shown, _ = push_one(moving, frames[6])
    assert shown.motion is not None
    assert shown.motion.frames == 5  # carried from frame 1, which the network had
    told = moving.summary.to_dict()
    assert (told["frames"], told["network_frames"]) == (7, 2)
    assert told["agreement"] > 0.95
    assert told["network_ms"] is not None


def test_live_a_cut_waits_for_the_network(gated: tuple[Gate, LiveMoving]) -> None:
    _, moving = gated
    begin(moving, pan(2))
    cut = pan(2, seed=5, start=2)
    (first, result), (second, _) = begin(moving, cut)
    assert first.motion is not None
    assert first.motion.is_key
    assert second.motion is not None
    assert not second.motion.is_key
    np.testing.assert_array_equal(result.labels, labels_by_network(cut)[0])


def test_live_what_comes_while_nothing_is_known_waits_in_order(
    gated: tuple[Gate, LiveMoving],
) -> None:
    """At most three frames; then all of them wait for the network."""
    gate, moving = gated
    gate.open.clear()
    frames = pan(5)
    for frame in frames[:3]:
        assert list(moving.push(frame, ("labels",))) == []
    gate.open.set()
    shown = [frame for frame, _ in moving.push(frames[3], ("labels",))]
    assert shown == frames[:4]
    assert push_one(moving, frames[4])[0] is frames[4]
    assert moving.summary.to_dict()["frames"] == 5


@pytest.mark.parametrize("larger", [False, True])
def test_live_what_waits_is_not_lost(gated: tuple[Gate, LiveMoving], larger: bool) -> None:
    """At the end, and where another size begins anew."""
    gate, moving = gated
    gate.open.clear()
    frames = pan(2)
    for frame in frames:
        assert list(moving.push(frame, ("labels",))) == []
    gate.open.set()
    if larger:
        other = Frame(np.zeros((200, 300, 3), np.uint8), index=2)
        assert [frame for frame, _ in moving.push(other, ("labels",))] == frames
        assert [frame for frame, _ in moving.end(("labels",))] == [other]
    else:
        assert [frame for frame, _ in moving.end(("labels",))] == frames


def test_live_an_error_of_the_network_ends_the_run(gated: tuple[Gate, LiveMoving]) -> None:
    gate, moving = gated
    frames = pan(4)
    begin(moving, frames)
    await_network(gate, moving)
    gate.fails = True
    push_one(moving, frames[2])
    await_network(gate, moving)
    with pytest.raises(BackendError, match="the network broke"):
        push_one(moving, frames[3])
