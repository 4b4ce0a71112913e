"""Workers: everyone's errors arrive, nobody is waited for in vain."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from segedge.cpu.workers import Workers
from segedge.machine.processors import usable_processors


def test_all_participants_have_their_own_number():
    workers = Workers(4)
    together = threading.Barrier(4, timeout=10)
    seen: list[int] = []

    def task(participant: int) -> None:
        together.wait()
        seen.append(participant)

    workers.run(task)
    assert sorted(seen) == [0, 1, 2, 3]
    workers.close()


def test_an_error_in_a_helper_is_raised_by_run():
    workers = Workers(2)
    entered = threading.Event()

    def task(participant: int) -> None:
        if participant == 1:
            entered.set()
            raise ValueError("from the helper")
        assert entered.wait(10)

    with pytest.raises(ValueError, match="from the helper"):
        workers.run(task)
    workers.run(lambda participant: None)  # still usable


def test_an_error_in_the_caller_waits_for_the_helper():
    workers = Workers(2)
    entered, left = threading.Event(), threading.Event()

    def task(participant: int) -> None:
        if participant == 1:
            entered.set()
            time.sleep(0.05)
            left.set()
            return
        assert entered.wait(10)
        raise KeyError("from the caller")

    with pytest.raises(KeyError):
        workers.run(task)
    assert left.is_set()


def test_a_caller_that_finds_the_helpers_busy_works_alone():
    workers = Workers(2)
    inside, done = threading.Event(), threading.Event()

    def long_task(participant: int) -> None:
        inside.set()
        assert done.wait(10)

    other = threading.Thread(target=workers.run, args=(long_task,))
    other.start()
    assert inside.wait(10)
    seen: list[int] = []
    workers.run(seen.append)
    assert seen == [0]
    done.set()
    other.join()


def test_closed_workers_start_again_and_idle_threads_end_with_their_owner():
    workers = Workers(2)
    workers.run(lambda participant: None)
    threads = list(workers._threads)
    workers.close()
    assert not any(thread.is_alive() for thread in threads)
    workers.run(lambda participant: None)
    threads = list(workers._threads)
    del workers
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def test_counts():
    assert Workers(1).count == 1
    assert 1 <= Workers().count <= usable_processors()


def test_tickets_are_given_once():
    from numba import njit

    from segedge.cpu.kernels.simd import take_ticket

    @njit(nogil=True)
    def work(ticket, taken):
        while True:
            index = take_ticket(ticket)
            if index >= taken.size:
                return
            taken[index] += 1

    ticket, taken = np.zeros(1, np.int64), np.zeros(100_000, np.int32)
    Workers(3).run(lambda participant: work(ticket, taken))
    assert np.all(taken == 1)
