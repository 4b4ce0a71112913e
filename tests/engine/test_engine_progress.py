"""Progress of a build, and how Ctrl-C ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from segedge.convert.engine import build_plan
from segedge.convert.engine_cache import EngineCache
from segedge.convert.engine_progress import BuildProgress, PhaseTracker, stop_on_interrupt
from segedge.flavour import Flavour


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


def test_ctrl_c_cancels(rtx: Flavour, model: Path) -> None:
    """The handler only sets a flag; TensorRT's C++ is left in its own way."""
    before = signal.getsignal(signal.SIGINT)

    def press(progress: BuildProgress) -> None:
        if progress.fraction > 0.4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_plan(model, flavour=rtx, progress=press)
    assert signal.getsignal(signal.SIGINT) is before


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


def test_ctrl_c_in_the_command_leaves_nothing(
    rtx: Flavour, model: Path, cache: EngineCache, tmp_path: Path
) -> None:
    """`segedge build`, interrupted in the build: exit code 130, no engine, no part of one."""
    code = (
        "import sys, time\n"
        "from segedge.convert import engine_progress as p\n"
        "real = p.PhaseTracker.start\n"
        "def start(self, name, steps):\n"
        "    print('phase', flush=True)\n"
        "    time.sleep(0.3)\n"
        "    return real(self, name, steps)\n"
        "p.PhaseTracker.start = start\n"
        "from segedge.cli.main import run\n"
        f"run(['build', {str(model)!r}, '-o', {str(tmp_path / 'm.engine')!r}])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "phase\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not (tmp_path / "m.engine").exists()
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]
