"""Progress of a build, and how Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from segedge.engine.builder import log as engine_log
from segedge.engine.builder.builder import build_plan
from segedge.engine.builder.progress import BuildProgress, PhaseTracker, stop_on_interrupt
from segedge.engine.cache import EngineCache
from segedge.engine.flavour import Flavour
from tests.processes import PIPES, ended, started


def test_nested_phases_make_one_fraction() -> None:
    tracker = PhaseTracker()
    assert tracker.start("build", 2) == BuildProgress("build", 0.0)
    tracker.start("graph", 4)
    assert tracker.step("graph", 1) == BuildProgress("graph", 0.25)
    tracker.start("inner", 2)
    assert tracker.step("inner", 0).fraction == pytest.approx((2 + 0.5) / 4 / 2)
    tracker.finish("inner")
    assert tracker.finish("graph").phase == "build"
    assert tracker.step("build", 0).fraction == 0.5
    assert tracker.step("build", 1).fraction == 1.0
    assert tracker.finish("build") == BuildProgress("", 1.0)


def test_the_fraction_never_falls_and_never_passes_one() -> None:
    tracker = PhaseTracker()
    tracker.start("a", 1)
    assert tracker.step("a", 9).fraction == 1.0
    tracker.start("b", 10)
    assert tracker.step("b", 0).fraction == 1.0
    assert tracker.finish("unknown").fraction == 1.0


def test_a_real_build_reports(rtx: Flavour, model: Path) -> None:
    seen: list[BuildProgress] = []
    build_plan(model, flavour=rtx, progress=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert any("Optimizing" in progress.phase for progress in seen)


def test_an_exception_in_the_callback_comes_out(rtx: Flavour, model: Path) -> None:
    def fail(progress: BuildProgress) -> None:
        raise ValueError("in the callback")

    with pytest.raises(ValueError, match="in the callback"):
        build_plan(model, flavour=rtx, progress=fail)


CANCELLED = """
import signal, sys
from pathlib import Path
from segedge.engine.builder.builder import build_plan
from segedge.engine.flavour import load_flavour

before = signal.getsignal(signal.SIGINT)

def press(progress):
    if progress.fraction > 0.4:
        signal.raise_signal(signal.SIGINT)

try:
    build_plan(Path(sys.argv[1]), flavour=load_flavour("tensorrt_rtx"), progress=press)
except KeyboardInterrupt:
    print("cancelled", signal.getsignal(signal.SIGINT) is before)
"""


def test_ctrl_c_cancels(rtx: Flavour, model: Path) -> None:
    """The handler only sets a flag; TensorRT's C++ is left in its own way.

    In a process of its own: TensorRT-RTX 1.7.1 has once taken down a long one that it was cancelled
    in, and 78 times not.
    """
    words = [sys.executable, "-c", CANCELLED, str(model)]
    done = ended(words, code=0)
    assert done.stdout == "cancelled True\n"


@pytest.mark.parametrize("message", [1, 20, -1])
def test_ctrl_c_while_tensorrt_speaks(
    rtx: Flavour, model: Path, monkeypatch: pytest.MonkeyPatch, message: int
) -> None:
    """In a message of the parser and in the very last one: no exception may enter the C++."""
    route, said = engine_log._Router.route, []

    def press(self: Any, text: str, *, is_error: bool) -> None:
        said.append(text)
        if len(said) == message:
            signal.raise_signal(signal.SIGINT)
        route(self, text, is_error=is_error)

    monkeypatch.setattr(engine_log._Router, "route", press)
    if message < 0:
        build_plan(model, flavour=rtx)
        message = len(said)
        said.clear()
    with pytest.raises(KeyboardInterrupt):
        build_plan(model, flavour=rtx)


def test_builds_in_a_thread_without_signals(rtx: Flavour, model: Path) -> None:
    plans: list[bytes] = []
    thread = threading.Thread(target=lambda: plans.append(build_plan(model, flavour=rtx).plan))
    thread.start()
    thread.join()
    assert plans[0]


def test_the_event_is_unset_at_first() -> None:
    with stop_on_interrupt() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        signal.raise_signal(signal.SIGINT)  # it must not be raised into TensorRT either


def test_sigterm_is_heard_as_ctrl_c_is() -> None:
    with stop_on_interrupt() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()


def test_a_terminal_gets_a_bar_and_a_pipe_does_not(
    rtx: Flavour, model: Path, cache: EngineCache
) -> None:
    command = [sys.executable, "-m", "segedge.cli.main", "build", str(model)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    ours, theirs = pty.openpty()
    output = ended(command, seconds=60, stderr=theirs, env=environment).stdout
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # a terminal that nobody writes to any more
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    text = shown.decode()
    assert "━" in text
    assert "reading the model" in text
    assert "100%" in text
    assert "first build of this model" in text
    assert "━" not in output
    cache.clear()
    done = ended(command, seconds=60, code=0)
    assert done.stderr == "building with TensorRT-RTX 1.7.1: first build of this model\n"


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_command_leaves_nothing(
    rtx: Flavour,
    model: Path,
    cache: EngineCache,
    tmp_path: Path,
    number: signal.Signals,
    exit_code: int,
) -> None:
    """`segedge build`, interrupted in the build: no engine, no part of one, no traceback."""
    code = (
        "import sys, time\n"
        "from segedge.engine.builder import progress as p\n"
        "real = p.PhaseTracker.start\n"
        "def start(self, name, steps):\n"
        "    print('phase', flush=True)\n"
        "    time.sleep(0.3)\n"
        "    return real(self, name, steps)\n"
        "p.PhaseTracker.start = start\n"
        "from segedge.cli.main import run\n"
        f"run(['build', {str(model)!r}, '-o', {str(tmp_path / 'm.engine')!r}])\n"
    )
    with started([sys.executable, "-c", code], **PIPES) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "phase\n"
        time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == exit_code, errors
    assert "Traceback" not in errors
    assert not (tmp_path / "m.engine").exists()
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]
