"""The soak holds for some seconds, and says what did not hold."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.benchmarks.conftest import BENCHMARKS, Load
from tests.processes import ended
from tests.small_model import write_model

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: segedge[cpu]")
pytest.importorskip("websockets", reason="websockets is not installed: segedge[live]")

COUNTS = {"read": 9, "written": 7, "dropped": 2, "failed": 0}


@pytest.fixture
def soak(load: Load) -> ModuleType:
    return load("soak")


@pytest.mark.long
def test_a_short_one_holds(tmp_path: Path) -> None:
    """With a source that is killed in its midst, a stalled viewer, a full disk and SIGTERM."""
    model = write_model(tmp_path / "model.onnx")
    words = [BENCHMARKS / "soak.py", model, "--minutes", "0.2", "--restart", "5"]
    done = ended([sys.executable, *map(str, words)])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.rstrip().endswith("held")


def test_what_does_not_hold_is_named(soak: ModuleType) -> None:
    samples = [soak.Sample(float(n), 300.0, 10, 20) for n in range(8)]
    good = {"code": 143, "told": "", "frames": COUNTS, "samples": samples}
    assert soak.problems(good, "exit code 2, error: the disk is full: cannot write x") == []
    assert soak.problems(good, "") == []
    assert "exit code -9" in soak.problems({**good, "code": -9}, "")[0]
    lost = {**good, "frames": {**COUNTS, "dropped": 1}}
    assert "not accounted for" in soak.problems(lost, "")[0]
    leaking = [soak.Sample(float(n), 300.0 + 20 * n, 10 + 3 * n, 20) for n in range(8)]
    assert "grew" in soak.problems({**good, "samples": leaking}, "")[0]
    assert "full disk" in soak.problems(good, "exit code 0, no error")[0]
