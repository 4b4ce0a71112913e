"""TensorRT's log: who gets which message, and that none of them can stop the process for ever."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from segedge.engine.builder.builder import build_plan
from segedge.engine.builder.log import build_log, paused_collector, recorded
from segedge.engine.builder.progress import BuildProgress
from segedge.engine.flavour import Flavour
from segedge.errors import ModelError
from tests.engine.graphs import nonzero_model, save
from tests.processes import ended

_OLD_BUILDER = """
import faulthandler, gc, sys
faulthandler.dump_traceback_later(30, exit=True)
from segedge.engine.builder import log as engine_log
from segedge.engine.builder.builder import build_plan
from segedge.engine.flavour import load_flavour

flavour = load_flavour("tensorrt_rtx")
trt = flavour.module
old = [trt.Builder(engine_log.build_log(flavour))]  # what a kept traceback or a notebook holds
said = []
route = engine_log._Router.route

def free_at_the_first_message(self, text, *, is_error):
    said.append(text)
    old.clear()  # as the cycle collector does, in the middle of any allocation
    gc.collect()
    route(self, text, is_error=is_error)

engine_log._Router.route = free_at_the_first_message
build_plan(sys.argv[1], flavour=flavour)
assert said and not [text for text in said if "differs from one already registered" in text]
print("BUILT")
"""


def test_an_old_builder_freed_in_a_message_does_not_stop_the_build(
    rtx: Flavour, model: Path
) -> None:
    """With a logger a build, TensorRT warns of the second one under a mutex: a deadlock."""
    done = ended([sys.executable, "-c", _OLD_BUILDER, str(model)], seconds=60)
    assert done.stdout == "BUILT\n", done.stderr[-2000:]


def test_one_logger_a_process(rtx: Flavour) -> None:
    assert build_log(rtx) is build_log(rtx)


def test_the_collector_rests_while_tensorrt_may_call_back(rtx: Flavour, model: Path) -> None:
    seen: list[bool] = []
    assert gc.isenabled()
    build_plan(model, flavour=rtx, progress=lambda progress: seen.append(gc.isenabled()))
    assert seen
    assert not any(seen)
    assert gc.isenabled()


def test_the_collector_comes_back_when_the_last_one_leaves() -> None:
    with paused_collector():
        with paused_collector():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with paused_collector():
            pass
        assert not gc.isenabled()  # it was off before
    finally:
        gc.enable()


def test_messages_go_to_the_thread_at_work(rtx: Flavour) -> None:
    log, severity = build_log(rtx), rtx.module.ILogger.Severity
    other: list[list[str]] = []

    def elsewhere() -> None:
        with recorded(rtx) as record:
            log.log(severity.ERROR, "theirs")
            other.append(record.errors)

    def tensorrts_own() -> None:
        log.log(severity.ERROR, "from a thread of TensorRT")

    with recorded(rtx) as record:
        log.log(severity.ERROR, "mine")
        log.log(severity.WARNING, "no error")
        for work in (elsewhere, tensorrts_own):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        with recorded(rtx) as inner:
            log.log(severity.INTERNAL_ERROR, "inner")
    assert record.errors == ["mine", "from a thread of TensorRT"]
    assert inner.errors == ["inner"]
    assert other == [["theirs"]]


def test_errors_between_builds_are_kept_up_to_a_bound(rtx: Flavour) -> None:
    log = build_log(rtx)
    for number in range(300):
        log.log(rtx.module.ILogger.Severity.ERROR, f"error {number}")
    assert (len(log.errors), log.errors[-1]) == (100, "error 299")
    with recorded(rtx) as record:
        for number in range(300):
            log.log(rtx.module.ILogger.Severity.ERROR, f"error {number}")
    assert (len(record.errors), record.errors[0]) == (100, "error 0")


@pytest.mark.parametrize("failure", ["refused", "callback", "ctrl-c"])
def test_a_failed_build_keeps_no_builder(
    rtx: Flavour, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """Whoever keeps the error (a notebook keeps the last) does not keep the network's memory."""
    builders: list[weakref.ref[Any]] = []
    real = rtx.module.Builder

    def builder(log: Any) -> Any:
        made = real(log)
        builders.append(weakref.ref(made))
        return made

    monkeypatch.setattr(rtx.module, "Builder", builder)

    def fail(progress: BuildProgress) -> None:
        raise KeyboardInterrupt if failure == "ctrl-c" else ValueError

    path = save(nonzero_model(), tmp_path / "n.onnx") if failure == "refused" else model
    with pytest.raises((ModelError, ValueError, KeyboardInterrupt)) as caught:
        build_plan(path, flavour=rtx, progress=fail)
    assert builders[0]() is None
    assert caught.value is not None
