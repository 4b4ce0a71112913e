"""A source of so many frames or seconds."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from segedge.frames.protocols import SourceFailure
from segedge.pipeline.limits import LimitedSource
from segedge.video.memory import MemorySource
from tests.pipeline.pipeline_parts import images


@given(number=st.integers(0, 12), limit=st.integers(1, 12))
def test_a_limit_of_frames(number: int, limit: int) -> None:
    source = LimitedSource(MemorySource(images(number)), frames=limit)
    assert [frame.index for frame in source.frames()] == list(range(min(number, limit)))
    assert source.info.frame_count == min(number, limit)


def test_a_limit_of_seconds_is_the_video_s_own_time() -> None:
    source = LimitedSource(MemorySource(images(100), fps=10), seconds=2.0, clock_ns=lambda: 0)
    assert sum(1 for _ in source.frames()) == 20
    assert source.info.frame_count == 20


def test_a_limit_of_seconds_of_a_live_source_is_the_clock_s() -> None:
    inner = MemorySource(images(100), fps=10, live=True)
    clock = count(0, 10**9)
    source = LimitedSource(inner, seconds=3.0, clock_ns=lambda: next(clock))
    assert sum(1 for _ in source.frames()) == 3
    assert inner._closed.is_set()


def test_a_video_that_was_limited_does_not_count_as_cut() -> None:
    inner = MemorySource(images(9))
    inner.failures = (SourceFailure("x", "ends early", cut=True), SourceFailure("y", "damaged"))
    source = LimitedSource(inner, frames=4)
    assert len(list(source.frames())) == 4
    assert [failure.name for failure in source.failures] == ["y"]
    whole = LimitedSource(inner, frames=40)
    assert len(list(whole.frames())) == 0  # closed
    assert len(whole.failures) == 2
