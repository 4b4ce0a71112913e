"""Frames that the network does not see: in order, carried by motion, begun anew with a scene."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import segedge
from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.errors import BackendError, UsageError
from segedge.frames.frame import Frame
from segedge.motion.pace import Pace
from segedge.options.frame import FrameOptions
from segedge.options.motion import MOST_HELD, Motion
from segedge.options.sliding import Slide
from segedge.options.smoothing import Smoothing
from segedge.segment.carrying_on_host import HostCarrying
from segedge.segment.moving import Moving, Shown
from segedge.segment.moving_live import LiveMoving
from segedge.segment.result import Result
from segedge.segment.segmenter import Segmenter

CARD = ModelCard(
    ("night", "dusk", "day"), ((0, 0, 0), (0, 0, 255), (255, 255, 0)), 96, 128, stride=8
)
SIZE = (96, 128)
WAIT_SECONDS = 30.0


def scene(seed: int = 0) -> NDArray[np.uint8]:
    """Large shapes of every brightness with a texture that motion can be seen by."""
    rng = np.random.default_rng(seed)
    shapes = cv2.resize(
        rng.integers(0, 256, (7, 12), dtype=np.uint8), (400, 240), interpolation=cv2.INTER_CUBIC
    )
    texture = cv2.resize(rng.integers(-20, 21, (60, 100)).astype(np.float32), (400, 240))
    grey = np.clip(shapes + texture, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def pan(
    count: int, *, step: int = 2, seed: int = 0, start: int = 0, fps: float = 25.0
) -> list[Frame]:
    """A camera that moves over a scene, so many pixels a frame."""
    whole, (height, width) = scene(seed), SIZE
    return [
        Frame(
            np.ascontiguousarray(whole[20 : 20 + height, step * n : step * n + width]),
            start + n,
            pts_seconds=(start + n) / fps,
        )
        for n in range(count)
    ]


def segmenter(motion: Motion | None, backend: FakeBackend | None = None) -> Segmenter:
    return Segmenter(
        CARD, backend or FakeBackend(CARD), options=FrameOptions(motion=motion), threads=2
    )


def shown_of(moving: Moving, frames: Sequence[Frame]) -> list[Shown]:
    shown = [pair for frame in frames for pair in moving.push(frame, ("labels",))]
    return shown + list(moving.end(("labels",)))


def run(
    frames: Sequence[Frame], motion: Motion, *, live: bool = False
) -> tuple[list[Shown], FakeBackend, Moving]:
    backend = FakeBackend(CARD)
    with segmenter(motion, backend) as made:
        moving = made.moving(live=live)
        assert moving is not None
        backend.calls = 0
        shown = shown_of(moving, frames)
    return shown, backend, moving


def keys_of(shown: Sequence[Shown]) -> list[int]:
    return [frame.index for frame, _ in shown if frame.motion and frame.motion.is_key]


def labels_by_network(frames: Sequence[Frame]) -> list[NDArray[np.uint8]]:
    with segmenter(None) as made:
        return [made(Frame(frame.image_hwc)).labels for frame in frames]


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


@pytest.mark.usefixtures("quick_collection")
def test_files_hold_no_more_frames_than_the_distance() -> None:
    """And results that nobody keeps leave nothing behind."""
    frames = pan(40)
    alive = [weakref.ref(frame) for frame in frames]
    with segmenter(Motion(every=4)) as made:
        moving = made.moving(live=False)
        assert moving is not None
        most = 0
        while frames:
            for _ in moving.push(frames.pop(0), ()):
                pass
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive) - len(frames))
        moving.close()
    assert most <= 5  # a key and those that wait for the next


@pytest.mark.parametrize("motion", [Motion(every=4), Motion(every="auto"), Motion(3, fuse=0.5)])
def test_frames_drawn_at_the_same_time_are_as_one_after_the_other(motion: Motion) -> None:
    frames = [*pan(9, seed=1), *pan(8, seed=2, start=9)]
    found = []
    for threads in (1, 2, 4):
        options = FrameOptions(motion=motion)
        with Segmenter(CARD, FakeBackend(CARD), options=options, threads=threads) as made:
            moving = made.moving(live=False)
            assert moving is not None
            outputs = ("overlay", "labels")
            shown = [pair for one in frames for pair in moving.push(as_new(one), outputs)]
            shown += moving.end(outputs)
        notes, results = zip(*((frame.motion, result) for frame, result in shown), strict=True)
        found.append((notes, [r.overlay() for r in results], [r.labels for r in results]))
    assert len(found[0][0]) == 17
    for notes, overlays, labels in found[1:]:
        assert notes == found[0][0]
        np.testing.assert_array_equal(overlays, found[0][1])
        np.testing.assert_array_equal(labels, found[0][2])


def as_new(frame: Frame) -> Frame:
    return Frame(frame.image_hwc, frame.index, pts_seconds=frame.pts_seconds, captured_ns=0)


def test_for_each_frame_that_comes_one_goes() -> None:
    """Frames are drawn beside, so none of a file come in a burst."""
    with segmenter(Motion(every=4)) as made:
        moving = made.moving(live=False)
        assert moving is not None
        counts = [len(list(moving.push(frame, ()))) for frame in pan(14)]
        rest = len(list(moving.end(())))
    assert counts == [1, 0, 0, 0, 0, *[1] * 9]
    assert rest == 4


def test_a_frame_may_be_drawn_on_by_who_gets_it() -> None:
    """Its motion is found before it is given out."""
    frames = pan(13)
    truth, _, _ = run(pan(13), Motion(every=4))
    with segmenter(Motion(every=4)) as made:
        moving = made.moving(live=False)
        assert moving is not None
        labels = []
        for frame in [*frames, None]:
            for given, result in (
                moving.push(frame, ("labels",)) if frame else moving.end(("labels",))
            ):
                labels.append(result.labels)
                given.image_hwc[:] = 0
    np.testing.assert_array_equal(labels, [result.labels for _, result in truth])


def test_an_error_beside_is_told_when_its_frame_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    carry = HostCarrying.carry

    def fails(self: HostCarrying, frame: Frame, sources: Any) -> Any:
        if frame.index == 6:
            raise BackendError("no memory for the logits")
        return carry(self, frame, sources)

    monkeypatch.setattr(HostCarrying, "carry", fails)
    with segmenter(Motion(every=4)) as made:
        moving = made.moving(live=False)
        assert moving is not None
        given: list[int] = []

        def show_all() -> None:
            for frame in pan(14):
                given.extend(shown.index for shown, _ in moving.push(frame, ("labels",)))

        with pytest.raises(BackendError, match="no memory"):
            show_all()
        moving.close()
    assert given == [0, 1, 2, 3, 4, 5]


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


def test_a_stream_gives_all_frames_in_order_and_tells_the_agreement() -> None:
    images = [frame.image_hwc for frame in pan(11)]
    with (
        segmenter(Motion(every=4)) as made,
        segedge.stream(made, segedge.MemorySource(images, fps=25.0)) as stream,
    ):
        indices = [frame.index for frame, _ in stream]
        told = stream.motion.to_dict() if stream.motion else {}
        progress = stream.progress
    assert indices == list(range(11))
    assert (progress.read, progress.written) == (11, 11)
    assert told["network_frames"] == 4


def test_a_closed_stream_holds_no_thread_and_no_frame_even_while_results_are_kept() -> None:
    before = set(threading.enumerate())
    images = [frame.image_hwc for frame in pan(40)]
    backend = FakeBackend(CARD)
    options = FrameOptions(motion=Motion(every=4))
    with Segmenter(CARD, backend, options=options, threads=4) as made:
        stream = segedge.stream(made, segedge.MemorySource(images, fps=25.0))
        with stream:
            kept = [next(stream) for _ in range(8)]
    assert set(threading.enumerate()) <= before
    assert [result.overlay().shape for _, result in kept] == [(*SIZE, 3)] * 8
    frames = [weakref.ref(frame) for frame, _ in kept]
    del kept
    gc.collect()
    assert [frame() for frame in frames] == [None] * 8


def test_a_pipeline_accounts_for_every_frame() -> None:
    images = [frame.image_hwc for frame in pan(11)]
    sink = segedge.MemorySink()
    with segmenter(Motion(every=4)) as made:
        report = segedge.Pipeline(segedge.MemorySource(images, fps=25.0), made, [sink]).run()
    assert (report.read, report.written, report.dropped) == (11, 11, 0)
    assert report.motion is not None
    assert report.motion["frames"] == 11
    assert report.stages["network"].count == 4


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
