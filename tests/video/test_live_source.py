"""LiveSource over connections that the test holds in its hands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from segedge.errors import SourceError
from segedge.frames.protocols import Source
from segedge.video.live.connection import Picture
from segedge.video.live.source import LiveSource

SECOND = 1_000_000_000


def picture(captured_seconds: float, stream_seconds: float | None = None) -> Picture:
    image = np.zeros((4, 6, 3), np.uint8)
    return Picture(image, round(captured_seconds * SECOND), stream_seconds, 1.5)


class Scripted:
    """A connection that gives pictures, waits for events, and raises errors."""

    fps: float | None = 30.0
    left_out = 0

    def __init__(self, *steps: Picture | threading.Event | Exception) -> None:
        self._steps = steps
        self.seconds: float | None = None
        self.closed = threading.Event()

    def pictures(self) -> Iterator[Picture]:
        for step in self._steps:
            if isinstance(step, Picture):
                yield step
            elif isinstance(step, Exception):
                raise step
            else:
                step.wait(10)

    def close(self) -> None:
        self.closed.set()


def in_turn(*connections: Scripted | SourceError) -> Callable[[], Scripted]:
    left = iter(connections)

    def connect() -> Scripted:
        connection = next(left)
        if isinstance(connection, SourceError):
            raise connection
        return connection

    return connect


def test_times_go_on_across_connections() -> None:
    """The second encoder's clock happens to be a little ahead of where the first stopped."""
    hold = threading.Event()
    first = Scripted(picture(10, 5.0), hold, picture(11, 6.0))
    second = Scripted(picture(31, 6.5), picture(32, 7.5))
    ends = iter([False, True])
    source = LiveSource("cam0", in_turn(first, second), wait=lambda _: next(ends))
    as_source: Source = source
    frames = as_source.frames()
    hold.set()
    rest = [frame.pts_seconds for frame in frames]
    assert rest[-3:] == pytest.approx([0.0, 20.0, 21.0])
    assert first.closed.wait(5)
    assert second.closed.wait(5)


def test_what_came_before_frames_is_thrown_away() -> None:
    given = threading.Event()
    last = picture(5)

    class Telling(Scripted):
        def pictures(self) -> Iterator[Picture]:
            yield from super().pictures()
            given.set()

    source = LiveSource("cam0", in_turn(Telling(picture(1), picture(2), last)), reconnect=False)
    assert given.wait(5)
    assert [frame.captured_ns for frame in source.frames()] == [last.captured_ns]


def test_a_driver_that_hangs_is_lost() -> None:
    release = threading.Event()
    hung = Scripted(picture(1), release)
    fine = Scripted(picture(2), SourceError("x broke", facts={"found": "unplugged"}))
    ends = iter([False, True])
    source = LiveSource("cam0", in_turn(hung, fine), stall_seconds=0.05, wait=lambda _: next(ends))
    assert [frame.index for frame in source.frames()] == [0]
    assert source.notes[0] == "cam0: lost (timed out after 0.05 s), reconnecting"
    assert source.notes[2] == "cam0: lost (unplugged), reconnecting"
    release.set()
    assert hung.closed.wait(5)


def test_closed_while_it_hangs() -> None:
    release, entered = threading.Event(), threading.Event()

    class Hung(Scripted):
        def pictures(self) -> Iterator[Picture]:
            yield picture(1)
            yield picture(2)
            entered.set()
            release.wait(10)

    source = LiveSource("cam0", in_turn(Hung()), stall_seconds=60)
    done = threading.Event()

    def read() -> None:
        list(source.frames())
        done.set()

    threading.Thread(target=read, daemon=True).start()
    assert entered.wait(5)
    source.close()
    assert done.wait(5)
    release.set()


def test_lost_between_opening_and_the_first_frame() -> None:
    gone, back = Scripted(picture(1)), Scripted(picture(2))
    ends = iter([False, True])
    source = LiveSource("cam0", in_turn(gone, back), wait=lambda _: next(ends))
    assert gone.closed.wait(5)
    assert len(list(source.frames())) >= 1
    assert source.reconnects == 1


def test_opened_and_ended_without_a_frame() -> None:
    with pytest.raises(SourceError, match="no frame came from cam0"):
        LiveSource("cam0", in_turn(Scripted()))


def test_the_first_failure_is_an_error_at_once() -> None:
    refused = SourceError("cam0 is busy")
    with pytest.raises(SourceError, match="cam0 is busy"):
        LiveSource("cam0", in_turn(refused), wait=lambda _: pytest.fail("no second attempt"))


def test_lost_without_reconnection_is_an_error() -> None:
    broken = SourceError("x broke", facts={"found": "unplugged"}, fix="plug it in")
    hold = threading.Event()
    connection = Scripted(picture(1), hold, picture(2), broken)
    source = LiveSource("cam0", in_turn(connection), reconnect=False)
    frames = source.frames()
    hold.set()
    assert next(frames).index == 0
    with pytest.raises(SourceError, match=r"^cam0 was lost") as caught:
        list(frames)
    assert caught.value.facts == {"found": "unplugged", "after": "1 frame"}
    assert caught.value.fix == "plug it in"


def test_notes_are_bounded() -> None:
    connections = [Scripted(picture(1)) for _ in range(80)]
    left = iter([*[False] * 79, True])
    source = LiveSource("cam0", in_turn(*connections), wait=lambda _: next(left))
    list(source.frames())
    assert source.reconnects == 79
    assert len(source.notes) == 100
