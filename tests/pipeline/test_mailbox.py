"""Mailboxes: nothing lost that should not be, nobody left waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.pipeline.mailbox import Mailbox, MailboxClosed

WAIT_SECONDS = 20.0
"""Longer than anything takes; only a hang reaches it."""


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def joined(thread: threading.Thread) -> None:
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive(), "it hangs"


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 200), capacity=st.integers(1, 5))
def test_lossless_hands_over_everything_in_order(count: int, capacity: int) -> None:
    box: Mailbox[int] = Mailbox(capacity)

    def produce() -> None:
        for value in range(count):
            assert box.put(value) is None
            assert len(box) <= capacity
        box.close()

    thread = in_thread(produce)
    assert list(box) == list(range(count))
    joined(thread)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 200), capacity=st.integers(1, 5))
def test_latest_accounts_for_everything(count: int, capacity: int) -> None:
    """However the threads run: got + dropped = put, in order, and the newest is never dropped."""
    box: Mailbox[int] = Mailbox(capacity, policy="latest")
    dropped: list[int] = []

    def produce() -> None:
        for value in range(count):
            old = box.put(value)
            if old is not None:
                dropped.append(old)
        box.close()

    thread = in_thread(produce)
    got = list(box)
    joined(thread)
    assert sorted(got + dropped) == list(range(count))
    assert got == sorted(got)
    assert dropped == sorted(dropped)
    assert got[-1:] == list(range(count))[-1:]


@given(
    operations=st.lists(st.one_of(st.just("get"), st.integers(0, 99)), max_size=60),
    capacity=st.integers(1, 4),
)
def test_latest_is_a_ring(operations: list[str | int], capacity: int) -> None:
    """Against a plain list, from one thread."""
    box: Mailbox[int] = Mailbox(capacity, policy="latest")
    model: list[int] = []
    for operation in operations:
        if isinstance(operation, int):
            expected = model.pop(0) if len(model) == capacity else None
            model.append(operation)
            assert box.put(operation) == expected
        elif model:
            assert box.get() == model.pop(0)
    box.close()
    assert list(box) == model


def test_close_lets_the_rest_be_taken() -> None:
    box: Mailbox[int] = Mailbox(3)
    box.put(1)
    box.put(2)
    box.close()
    with pytest.raises(MailboxClosed):
        box.put(3)
    assert list(box) == [1, 2]
    with pytest.raises(MailboxClosed):
        box.get()


def test_close_with_an_error_lets_the_rest_be_taken_unless_it_is_to_be_dropped() -> None:
    box: Mailbox[int] = Mailbox(3)
    box.put(1)
    box.put(2)
    first, second = ValueError("first"), ValueError("second")
    box.close()
    assert box.error is None
    box.close(first)
    box.close(second)
    box.close()
    assert box.error is first
    assert box.get() == 1
    box.close(drop=True)
    assert list(box) == []


@pytest.mark.parametrize("error", [None, ValueError("stop")])
def test_close_wakes_who_waits_to_get(error: BaseException | None) -> None:
    box: Mailbox[int] = Mailbox(1)
    outcome: list[str] = []

    def consume() -> None:
        try:
            box.get()
        except MailboxClosed:
            outcome.append("closed")

    thread = in_thread(consume)
    box.close(error)
    joined(thread)
    assert outcome == ["closed"]


@pytest.mark.parametrize("error", [None, ValueError("stop")])
def test_close_wakes_who_waits_to_put(error: BaseException | None) -> None:
    box: Mailbox[int] = Mailbox(1)
    box.put(1)
    outcome: list[str] = []

    def produce() -> None:
        try:
            box.put(2)
        except MailboxClosed:
            outcome.append("closed")

    thread = in_thread(produce)
    box.close(error)
    joined(thread)
    assert outcome == ["closed"]


def test_arguments() -> None:
    with pytest.raises(ValueError, match="capacity 0"):
        Mailbox(0)
    with pytest.raises(ValueError, match="policy 'newest'"):
        Mailbox(1, policy="newest")  # type: ignore[arg-type]
