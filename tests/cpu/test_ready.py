"""Kernels are loaded beside the model, and only where they may be needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from segedge.backends import registry
from segedge.backends.registry import BACKENDS, may_run_on_host


def test_the_kernels_of_a_frame_are_loaded() -> None:
    """In an interpreter of its own, where nothing else has used them."""
    code = (
        "from segedge.cpu import ready\n"
        "from segedge.cpu.kernels import resample\n"
        "assert not resample.resample.signatures\n"
        "ready.make_ready().join()\n"
        "print(len(resample.resample.signatures))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"
    assert not done.stderr


def test_who_runs_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    on_host = {name for name in BACKENDS if may_run_on_host(f"{name}:x")}
    assert on_host == {"openvino", "onnxruntime", "eager", "torch-compile", "remote"}
    for gpu, expected in ((None, True), ("RTX", False)):
        driver = type("Driver", (), {"gpu": gpu})
        monkeypatch.setattr(registry, "find_driver", lambda driver=driver: driver)
        assert may_run_on_host("auto") is expected
