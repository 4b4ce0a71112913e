"""A Ctrl-C is heard of, wherever it strikes."""

from __future__ import annotations

import ctypes
import signal
import time

import pytest

from segedge.machine.interrupt import noted_interrupts, on_interrupt


class InterruptedWhenFreed:
    """The garbage collector frees it at any time, in the main thread."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_ctrl_c_that_a_finalizer_swallows_stops_what_begins_after_it() -> None:
    heard: list[str] = []
    with noted_interrupts():
        InterruptedWhenFreed()
        with on_interrupt(heard.append):
            pass
    assert heard == ["SIGINT"]
    with noted_interrupts(), on_interrupt(heard.append):
        pass
    assert heard == ["SIGINT"]  # it is forgotten with the command
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_first_is_a_request_and_the_second_raises() -> None:
    heard: list[str] = []

    def twice() -> None:
        with noted_interrupts(), on_interrupt(heard.append):
            signal.raise_signal(signal.SIGINT)
            assert heard == ["SIGINT"]
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert heard == ["SIGINT"]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_each_raises_and_is_the_exit_code(name: str, code: int) -> None:
    number = signal.Signals[name]
    before = signal.getsignal(number)
    with noted_interrupts() as code_by_signal:
        assert code_by_signal() == 0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert code_by_signal() == code
        if name != "SIGINT":  # `timeout` sends it to the process, and to its group
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_a_request_is_the_exit_code_too() -> None:
    heard: list[str] = []
    with noted_interrupts() as code_by_signal, on_interrupt(heard.append):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert code_by_signal() == 143
    assert heard == ["SIGTERM"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("where", ["finalizer", "callback"])
def test_what_nobody_can_hand_on_is_raised_again(
    name: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numba's compiler calls back, for one; nothing is printed of it."""
    number = signal.Signals[name]

    class Freed:
        def __del__(self) -> None:
            signal.raise_signal(number)

    call_back = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(number))
    with noted_interrupts() as code_by_signal:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  wherever it strikes
            call_back() if where == "callback" else Freed()
            went_on = True
            time.sleep(20)
        assert went_on
        assert code_by_signal() == 128 + number
    assert capsys.readouterr().err == ""


def test_what_the_caller_ignores_stays_ignored() -> None:
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with noted_interrupts() as code_by_signal:
            signal.raise_signal(signal.SIGHUP)
            assert code_by_signal() == 0
    finally:
        signal.signal(signal.SIGHUP, usual)


def test_a_handler_of_the_program_stays() -> None:
    heard: list[str] = []
    own: list[int] = []
    usual = signal.signal(signal.SIGINT, lambda number, frame: own.append(number))
    try:
        with noted_interrupts(), on_interrupt(heard.append):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert own == [signal.SIGINT]
    assert not heard
