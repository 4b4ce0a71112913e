"""A push whose receiver goes away: it is found again, and only live frames are lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from push_receiver import Receiver, decoded, feed, settle

from segedge.errors import SinkError
from segedge.video.picture import Clock
from segedge.video.push.sink import FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS, PushSink


class FakeStream:
    """A network that a test commands."""

    def __init__(self) -> None:
        self.pictures: list[Any] = []
        self.broken: Exception | None = None
        self.taken = threading.Semaphore(0)

    def send(self, picture: Any) -> None:
        if self.broken:
            self.taken.release()
            raise self.broken
        self.pictures.append(picture)
        self.taken.release()

    def finish(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Network:
    """Connections in turn: a `FakeStream`, or a refusal."""

    def __init__(self, *outcomes: FakeStream | Exception) -> None:
        self.outcomes = list(outcomes)
        self.now = 100.0
        self.tries: list[float] = []

    def connect(self, size: tuple[int, int], clock: Clock) -> FakeStream:
        self.tries.append(self.now)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def sink(self, *, live: bool = True) -> PushSink:
        return PushSink(
            "tcp://127.0.0.1:1", fps=25, connect=self.connect, clock=lambda: self.now, live=live
        )


def test_a_lost_connection_is_made_again_with_growing_pauses() -> None:
    first, second = FakeStream(), FakeStream()
    refusals = [ConnectionRefusedError(111, "Connection refused") for _ in range(6)]
    network = Network(first, *refusals, second)
    sink = network.sink()
    for index in range(3):
        feed(sink, 1, index)
        first.taken.acquire(timeout=10)
    first.broken = BrokenPipeError(32, "Broken pipe")
    feed(sink, 1, 3)
    assert first.taken.acquire(timeout=10)
    link = sink._link
    assert link is not None
    assert link._done.wait(10)
    for index in range(4, 130):
        feed(sink, 1, index)
        settle(sink)
        network.now += 1.0
    while second.taken.acquire(blocking=False):
        pass
    sink.close()
    pauses = [b - a for a, b in zip(network.tries[1:], network.tries[2:], strict=False)]
    assert pauses == sorted(pauses)
    assert network.tries[1] - network.tries[0] <= FIRST_DELAY_SECONDS + 1
    assert LAST_DELAY_SECONDS <= max(pauses) <= LAST_DELAY_SECONDS + 2
    assert len(network.tries) == 8
    assert [p.pts for p in first.pictures] == [0, 400, 800]
    assert second.pictures[0].pts == 0  # a new connection begins at 0
    assert sink.sent == 3 + len(second.pictures)
    assert sink.sent + sink.dropped == 130
    assert sink.notes == [
        f"tcp://127.0.0.1:1: {sink.dropped} of 130 frames were not sent; connection lost 1 time"
    ]


def test_a_really_lost_connection(receiver: Receiver) -> None:
    """The server hangs up; the sink notices, and connects again when its time has come."""
    receiver._hang_up_after = 2000
    now = 100.0
    sink = PushSink(f"tcp://127.0.0.1:{receiver.port}", fps=25, clock=lambda: now)
    for index in range(5000):
        feed(sink, 1, index)
        if sink._link is None:
            break
        sink._link._done.wait(0.002)  # the network's turn
    assert sink._lost == 1
    lost_at = sink.dropped
    feed(sink, 5)
    assert sink.dropped == lost_at + 5  # not yet time
    now += FIRST_DELAY_SECONDS
    feed(sink, 1)
    settle(sink)
    feed(sink, 3)
    sink.close()
    receiver.stop()
    assert len(receiver.streams) == 2
    assert len(decoded(receiver.streams[1])[1]) in (3, 4)  # it may have been there for the first


def test_a_file_is_not_pushed_with_holes() -> None:
    stream = FakeStream()
    sink = Network(stream).sink(live=False)
    feed(sink, 2)
    stream.broken = BrokenPipeError(32, "Broken pipe")
    with pytest.raises(SinkError, match="cannot push") as caught:
        feed(sink, 20, 2)
    assert caught.value.facts["found"] == "Broken pipe"
    sink.close(error=True)


def test_a_slow_receiver_loses_frames_of_a_live_push_only() -> None:
    gate = threading.Event()

    class Slow(FakeStream):
        def send(self, picture: Any) -> None:
            if self.pictures:
                gate.wait()
            super().send(picture)

    stream = Slow()
    sink = Network(stream).sink()
    feed(sink, 50)  # returns: nobody waits
    gate.set()
    sink.close()
    assert 5 <= len(stream.pictures) <= 6
    assert sink.dropped == 50 - len(stream.pictures)
