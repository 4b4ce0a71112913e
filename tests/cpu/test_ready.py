"""Kernels are loaded beside the model, compiled in a process that outlives nobody, or left out."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segedge.backends import registry
from segedge.backends.registry import BACKENDS, may_run_on_host
from segedge.cpu.code import kernels, plain
from segedge.cpu.kernels.image import IS_KNOWN
from tests.processes import ended, started

BESIDE = "import sys, time\nfrom segedge.cpu.ready import Ready\nready = Ready(patience='beside')\n"


def python(code: str, cache: Path | None = None) -> subprocess.CompletedProcess[str]:
    """In an interpreter of its own, where nothing else has used the kernels."""
    extra = {} if cache is None else {"SEGEDGE_CACHE_DIR": str(cache)}
    return ended([sys.executable, "-c", code], env={**os.environ, **extra})


@pytest.mark.parametrize("patience", ["wait", "beside"])
def test_the_kernels_of_a_frame_are_loaded(patience: str) -> None:
    done = python(
        "from segedge.cpu.ready import Ready\n"
        f"ready = Ready(patience={patience!r})\n"
        "ready.settle()\n"
        "from segedge.cpu.kernels import resample\n"
        "print(ready().__name__, len(resample.resample._mapped))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == [kernels().__name__, "1"]
    assert not done.stderr


def test_few_frames_are_left_to_numpy_until_kernels_are_kept(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom segedge.cpu.ready import Ready\n"
        "ready = Ready(patience={!r})\nready.settle()\n"
        "print(ready().__name__, [name for name in ('numba', 'llvmlite') if name in sys.modules])"
    )
    few = code.format("none")
    assert python(few, tmp_path).stdout.split() == [plain().__name__, "[]"]
    python(code.format("wait"), tmp_path)
    kept = kernels() if IS_KNOWN else plain()
    assert python(few, tmp_path).stdout.split() == [kept.__name__, "[]"]


def test_steps_are_taken_before_anybody_goes_on() -> None:
    done = python(
        "import threading, time\nfrom segedge.cpu.ready import Ready\n"
        "ready, taken = Ready(), []\n"
        "def step():\n time.sleep(0.2); taken.append(threading.current_thread().name)\n"
        "ready.afterwards(step)\n"
        "ready.settle()\nprint(taken)\n"
        "ready.afterwards(step)\nprint(taken[1:])\n"
        "failing = Ready()\nfailing.afterwards(lambda: 1 / 0)\nfailing.settle()\n"
        "failing.afterwards(lambda: 1 / 0)\nprint('settled')"
    )
    assert done.stdout.splitlines() == ["['segedge-ready']", "['MainThread']", "settled"]
    assert not done.stderr


def test_the_compiling_process_ends_with_its_parent(tmp_path: Path) -> None:
    """Killed, the parent has no chance to end it."""
    code = f"{BESIDE}ready.settle()\nwhile ready._child is None: time.sleep(0.01)\n"
    code += "print(ready._child.pid, ready().__name__, flush=True)\nsys.stdin.read()"
    environment = {**os.environ, "SEGEDGE_CACHE_DIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started([sys.executable, "-c", code], env=environment, **pipes) as parent:
        assert parent.stdout, "a pipe"
        number, name = parent.stdout.readline().split()
        child = os.pidfd_open(int(number))
        assert name == plain().__name__, "frames wait for nobody"
        parent.send_signal(signal.SIGKILL)
        is_gone, _, _ = select.select([child], [], [], 60)
        os.close(child)
        assert is_gone


def test_a_process_that_cannot_compile_is_told(tmp_path: Path) -> None:
    code = (
        "import os, sys, logging, threading\n"
        "told = threading.Event()\n"
        "class Tell(logging.Handler):\n"
        "    def emit(self, record): print(record.getMessage(), flush=True); told.set()\n"
        "logging.getLogger('segedge').addHandler(Tell())\n"
        "from segedge.cpu.ready import Ready\n"
        "sys.executable = '/bin/false'\n"
        "ready = Ready(patience='beside')\n"
        "told.wait(60)\n"
        "os._exit(0)"  # the kernels are being compiled within
    )
    done = python(code, tmp_path)
    assert "kernels are compiled within the run" in done.stdout, done.stderr
    assert "code 1" in done.stdout


def test_who_runs_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    on_host = {name for name in BACKENDS if may_run_on_host(f"{name}:x")}
    assert on_host == {"openvino", "onnxruntime", "eager", "torch-compile", "remote"}
    for gpu, expected in ((None, True), ("RTX", False)):
        driver = type("Driver", (), {"gpu": gpu})
        monkeypatch.setattr(registry, "find_driver", lambda driver=driver: driver)
        assert may_run_on_host("auto") is expected
