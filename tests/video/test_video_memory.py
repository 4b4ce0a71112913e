"""The fakes that are shipped."""

from __future__ import annotations

import numpy as np
import pytest
from video_clips import FakeResult

from segedge.frames.protocols import Sink, Source
from segedge.video.memory import MemorySink, MemorySource


def test_source() -> None:
    images = [np.full((4, 6, 3), k, np.uint8) for k in range(3)]
    source: Source = MemorySource(images, fps=2.0)
    assert source.info.size == (4, 6)
    assert source.info.frame_count == 3
    frames = list(source.frames())
    assert [frame.pts_seconds for frame in frames] == [0.0, 0.5, 1.0]
    assert [frame.image_hwc[0, 0, 0] for frame in frames] == [0, 1, 2]
    source.close()
    assert list(source.frames()) == []


def test_live_source_waits_and_breaks_as_told() -> None:
    asked: list[int] = []

    def before_frame(index: int) -> None:
        asked.append(index)
        if index == 2:
            raise OSError("unplugged")

    images = [np.zeros((4, 6, 3), np.uint8)] * 5
    notes = ["memory: lost"]
    source = MemorySource(images, live=True, notes=notes, before_frame=before_frame)
    assert source.info.live
    assert source.notes == ("memory: lost",)
    frames = source.frames()
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(OSError, match="unplugged"):
        next(frames)
    assert asked == [0, 1, 2]


def test_sink() -> None:
    sink = MemorySink()
    as_sink: Sink = sink
    frame = next(MemorySource([np.zeros((4, 6, 3), np.uint8)]).frames())
    result = FakeResult()
    as_sink.write(frame, result)
    as_sink.close(error=True)
    as_sink.close()
    assert sink.written[0].frame is frame
    assert sink.written[0].result is result
    assert sink.closed_with_error is True
