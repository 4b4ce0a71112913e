"""Optional libraries: what is asked of them before they are imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.processes import ended

CODE = """
import os
import numpy as np
from segedge.machine.optional import require
ort = require("onnxruntime", purpose="test")
{session}
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
OPENED = """
from segedge.machine.onnx_session import cpu_session
from pathlib import Path
cpu_session(Path({model!r}))
"""


def run(code: str, home: Path, **more: str) -> str:
    """The output of a process with folders of its own, and without this one's choices."""
    without = ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME")
    own = {name: value for name, value in os.environ.items() if name not in without}
    own |= {"HOME": str(home), "TMPDIR": str(home), **more}
    done = ended([sys.executable, "-c", code], env=own)
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


def test_onnx_runtime_tells_nobody_what_runs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tests.small_model import write_model

    model, home = write_model(tmp_path / "m.onnx"), tmp_path / "home"
    home.mkdir()
    assert run(CODE.format(session=OPENED.format(model=str(model))), home) == "1"
    assert list(home.iterdir()) == []


def test_who_has_decided_about_it_has(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert run(CODE.format(session=""), tmp_path, ORT_DISABLE_TELEMETRY="0") == "0"
