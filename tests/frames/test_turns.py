"""Turns: calls that wait for each other, and none of what is closed."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from segedge.errors import UsageError
from segedge.frames.turns import Turns

WAIT_SECONDS = 20.0


class Thing:
    """Counts how often it is freed, and who is inside."""

    def __init__(self) -> None:
        self.turns = Turns("the thing", self.free, fix="make another")
        self.freed = 0
        self.inside = 0

    def free(self) -> None:
        assert self.inside == 0, "in the midst of a call"
        self.freed += 1


def test_another_thread_waits_for_its_turn() -> None:
    thing, most = Thing(), []

    def call() -> None:
        for _ in range(200):
            with thing.turns:
                thing.inside += 1
                most.append(thing.inside)
                thing.inside -= 1

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
    assert most == [1] * 800


def test_a_call_within_a_call_is_refused_and_harms_nothing() -> None:
    thing = Thing()
    refused = pytest.raises(UsageError, match="in the midst of another call")
    with thing.turns, refused, thing.turns:
        pass
    with thing.turns:
        pass


def test_closed_in_the_midst_of_a_call_it_is_freed_after_it() -> None:
    thing = Thing()
    with thing.turns:
        thing.turns.close()
        assert thing.freed == 0
    assert thing.freed == 1
    thing.turns.close()
    assert thing.freed == 1
    with pytest.raises(UsageError, match="the thing is closed\n  fix  make another"), thing.turns:
        pass
    with pytest.raises(UsageError, match="the thing is closed"):
        thing.turns.check_open()


def test_who_closes_waits_for_the_call_of_another_thread() -> None:
    thing = Thing()
    inside, may_leave = threading.Event(), threading.Event()

    def call() -> None:
        with thing.turns:
            thing.inside = 1
            inside.set()
            assert may_leave.wait(WAIT_SECONDS)
            thing.inside = 0

    caller = threading.Thread(target=call)
    caller.start()
    assert inside.wait(WAIT_SECONDS)
    closer = threading.Thread(target=thing.turns.close)
    closer.start()
    closer.join(0.05)  # it must wait, and would be done if it did not
    assert (closer.is_alive(), thing.freed) == (True, 0)
    may_leave.set()
    for thread in (caller, closer):
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
    assert thing.freed == 1


def test_an_error_in_a_call_ends_its_turn() -> None:
    thing = Thing()
    with pytest.raises(ValueError, match="inside"), thing.turns:
        raise ValueError("inside")
    with thing.turns:
        pass


def test_it_does_not_keep_what_it_belongs_to() -> None:
    """No circle: what is dropped is freed at once, not when the collector comes."""
    thing = Thing()
    seen = weakref.ref(thing)
    gc.disable()
    try:
        del thing
        assert seen() is None
    finally:
        gc.enable()
