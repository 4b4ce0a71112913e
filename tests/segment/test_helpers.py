"""Small tasks, done by helpers and by who waits."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future

import pytest

from segedge.segment.helpers import Helpers

WAIT_SECONDS = 30.0


def test_who_waits_does_what_the_helpers_have_not_begun() -> None:
    helpers, gate, entered = Helpers(1, "help"), threading.Event(), threading.Event()

    def busy() -> str:
        entered.set()
        assert gate.wait(WAIT_SECONDS)
        return threading.current_thread().name

    first = helpers.begin(busy)
    assert entered.wait(WAIT_SECONDS)  # the helper has it
    names = [helpers.begin(lambda: threading.current_thread().name) for _ in range(3)]
    here = threading.current_thread().name
    assert [helpers.wait(name) for name in names] == [here] * 3
    gate.set()
    assert helpers.wait(first) == "help-1"
    helpers.close()


def test_errors_are_those_of_the_task_that_is_waited_for() -> None:
    helpers = Helpers(2, "help")
    futures = [helpers.begin(divmod, 7, divisor) for divisor in (2, 0, 3)]
    assert helpers.wait(futures[2]) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        helpers.wait(futures[1])
    assert helpers.wait(futures[0]) == (3, 1)
    helpers.close()


def test_a_ctrl_c_is_raised_at_once_where_it_strikes() -> None:
    helpers = Helpers(0, "help")

    def struck() -> None:
        raise KeyboardInterrupt

    first, second = helpers.begin(struck), helpers.begin(int)
    with pytest.raises(KeyboardInterrupt):
        helpers.wait(second)  # which begins with the first
    assert first.done()
    assert helpers.wait(second) == 0


def test_what_was_not_begun_is_dropped_at_the_end() -> None:
    helpers, gate, entered = Helpers(1, "help"), threading.Event(), threading.Event()

    def busy() -> int:
        entered.set()
        assert gate.wait(WAIT_SECONDS)
        return 1

    first = helpers.begin(busy)
    assert entered.wait(WAIT_SECONDS)
    second = helpers.begin(int)
    closing = threading.Thread(target=helpers.close)
    closing.start()
    with pytest.raises(CancelledError):
        second.result(WAIT_SECONDS)
    gate.set()
    closing.join(WAIT_SECONDS)
    assert not closing.is_alive()
    assert first.result() == 1


def test_helpers_that_nobody_holds_end() -> None:
    helpers = Helpers(1, "help")
    assert helpers.begin(int, "7").result(WAIT_SECONDS) == 7
    threads, alive = list(helpers._threads), weakref.ref(helpers)
    del helpers
    gc.collect()
    assert alive() is None
    threads[0].join(WAIT_SECONDS)
    assert not threads[0].is_alive()


def test_an_interrupt_does_not_end_a_helper_whose_task_rests_on_what_it_struck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    helpers: Helpers = Helpers(1, "help")
    struck: Future[int] = Future()
    struck.set_exception(KeyboardInterrupt())
    rests = helpers.begin(struck.result)
    with pytest.raises(KeyboardInterrupt):
        rests.result(WAIT_SECONDS)
    assert helpers.begin(int, "7").result(WAIT_SECONDS) == 7
    assert helpers._threads[0].is_alive()
    helpers.close()
    assert not told
