"""Recordings in segments: each plays alone, and together they are the frames that came in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from video_clips import feed, gradient_images, noise_images

from segedge.errors import SinkError, UsageError
from segedge.video.encode.options import EncodeOptions
from segedge.video.sinks.segments import SegmentedSink
from segedge.video.sources.file import VideoFile

Images = Sequence[NDArray[np.uint8]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_segments_together_are_the_input(tmp_path: Path) -> None:
    images = gradient_images(62)
    options = EncodeOptions(crf=1)
    sink = SegmentedSink(tmp_path / "out.mp4", fps=25, segment_seconds=1, options=options)
    feed(sink, images)
    assert names(tmp_path)[1:] == ["out-000.mp4", "out-001.mp4"]
    sink.close()
    sink.close()
    assert names(tmp_path) == ["out-000.mp4", "out-001.mp4", "out-002.mp4"]
    assert [path.name for path in sink.paths] == names(tmp_path)
    parts = [list(VideoFile(path).frames()) for path in sink.paths]
    assert [len(part) for part in parts] == [25, 25, 12]
    for part in parts:  # each from time 0: it plays alone
        assert [f.pts_seconds for f in part] == pytest.approx([k / 25 for k in range(len(part))])
    frames = [frame for part in parts for frame in part]
    for frame, image in zip(frames, images, strict=True):
        assert abs(frame.image_hwc.mean() - image.mean()) < 1


def test_a_rate_that_is_no_whole_number_cuts_no_frame_late(tmp_path: Path) -> None:
    fps = 30000 / 1001
    sink = SegmentedSink(tmp_path / "a.mkv", fps=fps, segment_seconds=1.001)
    feed(sink, gradient_images(61), [k / fps for k in range(61)])
    sink.close()
    assert [len(list(VideoFile(path).frames())) for path in sink.paths] == [30, 30, 1]


def test_a_length_that_is_no_binary_fraction(tmp_path: Path) -> None:
    sink = SegmentedSink(tmp_path / "a.mp4", fps=30, segment_seconds=0.1)
    feed(sink, gradient_images(9), [k / 30 for k in range(9)])
    sink.close()
    assert [len(list(VideoFile(path).frames())) for path in sink.paths] == [3, 3, 3]


def test_a_pause_and_frames_without_times(tmp_path: Path) -> None:
    sink = SegmentedSink(tmp_path / "a.mp4", fps=25, segment_seconds=1)
    feed(sink, gradient_images(5), [7.0, 7.04, 60.0, 60.04, 60.08])
    sink.close()
    assert [len(list(VideoFile(path).frames())) for path in sink.paths] == [2, 3]
    still = SegmentedSink(tmp_path / "s.mp4", fps=2, segment_seconds=2)
    feed(still, gradient_images(9), [None] * 9)
    still.close()
    assert [len(list(VideoFile(path).frames())) for path in still.paths] == [4, 4, 1]


def test_another_size_begins_a_segment(tmp_path: Path) -> None:
    sink = SegmentedSink(tmp_path / "a.mp4", fps=25, segment_seconds=60)
    feed(sink, [*gradient_images(3, 48, 64), *gradient_images(2, 64, 80)])
    sink.close()
    assert [VideoFile(path).info.size for path in sink.paths] == [(48, 64), (64, 80)]
    assert sink.notes == []


def test_numbers_go_on_behind_older_ones(tmp_path: Path) -> None:
    (tmp_path / "out-007.mp4").write_bytes(b"older")
    (tmp_path / "out-008.partial.mp4").write_bytes(b"older")
    (tmp_path / "other-100.mp4").write_bytes(b"older")
    sink = SegmentedSink(tmp_path / "out.mp4", fps=25, segment_seconds=1)
    feed(sink, gradient_images(3))
    sink.close()
    assert [path.name for path in sink.paths] == ["out-009.mp4"]
    assert sink.notes == ["out.mp4: older segments are there; this run begins with out-009.mp4"]


def test_a_failed_run_leaves_whole_segments_and_a_partial_one(tmp_path: Path) -> None:
    sink = SegmentedSink(tmp_path / "out.mp4", fps=25, segment_seconds=1)
    feed(sink, gradient_images(30))
    sink.close(error=True)
    assert names(tmp_path) == ["out-000.mp4", "out-001.partial.mp4"]


def test_without_a_frame_nothing_is_left(tmp_path: Path) -> None:
    SegmentedSink(tmp_path / "out.mp4", fps=25, segment_seconds=1).close()
    assert names(tmp_path) == []


def test_full_disk_in_mid_recording(tiny_disk: Path) -> None:
    """One error; every file that is there plays."""
    options = EncodeOptions(key_seconds=0.2)
    sink = SegmentedSink(tiny_disk / "a.mp4", fps=25, segment_seconds=0.8, options=options)
    with pytest.raises(SinkError, match="the disk is full") as caught:
        feed(sink, noise_images(1000))
    sink.close(error=True)
    assert "whole segment" in caught.value.facts["before it"]
    assert names(tiny_disk)[0] == "a-000.mp4"
    assert names(tiny_disk) == [path.name for path in sink.paths]
    counts = [sum(1 for _ in VideoFile(path).frames()) for path in sink.paths]
    assert len(counts) >= 2
    assert counts[:-1] == [20] * (len(counts) - 1) or sink.paths[-1].name.endswith(".partial.mp4")


@pytest.mark.parametrize(("key", "value"), [("segment_seconds", 0), ("fps", 0)])
def test_arguments(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UsageError, match="positive"):
        SegmentedSink(tmp_path / "a.mp4", **{"fps": 25, "segment_seconds": 1, key: value})
