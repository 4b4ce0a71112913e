"""Carried frames are drawn beside the network: as many as come, in order, and nothing is kept."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import segedge
from segedge.backends.fake import FakeBackend
from segedge.errors import BackendError
from segedge.frames.frame import Frame
from segedge.options.frame import FrameOptions
from segedge.options.motion import Motion
from segedge.segment.carrying_on_host import HostCarrying
from segedge.segment.segmenter import Segmenter
from tests.segment.pans import CARD, SIZE, pan, run, segmenter


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
