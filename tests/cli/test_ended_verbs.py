"""Verbs that are ended from outside: SIGTERM and a closed terminal clean up as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from segedge.cli import main
from tests.processes import PIPES, SEGEDGE, started
from tests.small_model import write_model

SIGNALS = pytest.mark.parametrize(
    ("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)]
)
NETS = """
import os, time, torch

class Slow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1)

    def forward(self, image):
        if {when}:
            os.write(1, b"begun\\n")  # the exporter silences what is printed
            time.sleep(60)
        return self.conv(image)
"""


@pytest.mark.parametrize("when", ["True", "torch.compiler.is_exporting()"], ids=["run", "traced"])
@SIGNALS
def test_export(tmp_path: Path, when: str, sent: str, code: int) -> None:
    pytest.importorskip("torch")
    (tmp_path / "nets.py").write_text(NETS.format(when=when))
    words = ("export", "nets.py:Slow", "--size", "32x32", "-o", "out.onnx")
    with started([*SEGEDGE, *words], cwd=tmp_path, **PIPES) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in ("begun\n", ""):
            pass
        process.send_signal(signal.Signals[sent])
        _, told = process.communicate(timeout=60)
        assert process.returncode == code, told
    assert "Traceback" not in told
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"nets.py"}


@SIGNALS
def test_bench(tmp_path: Path, sent: str, code: int) -> None:
    """Its worker ends with it, and what that had written for itself is gone."""
    pytest.importorskip("onnxruntime")
    model = write_model(tmp_path / "m.onnx")
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    words = (*SEGEDGE, "bench", model, "--backend", "onnxruntime", "--seconds", 60, "--json", "x")
    with started(words, cwd=tmp_path, env={**os.environ, "TMPDIR": str(scratch)}, **PIPES) as run:
        while run.poll() is None and not list(scratch.glob("segedge-bench-*/segedge-bench-*")):
            time.sleep(0.05)
        run.send_signal(signal.Signals[sent])
        _, told = run.communicate(timeout=60)
        assert run.returncode == code, told
        with pytest.raises(ProcessLookupError):
            os.killpg(run.pid, 0)
    assert "Traceback" not in told
    assert not list(scratch.glob("segedge-*"))
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "tmp"}


@SIGNALS
def test_while_the_verb_is_imported(monkeypatch: pytest.MonkeyPatch, sent: str, code: int) -> None:
    """Half a second for some: before Typer has anything to do."""
    monkeypatch.setattr(main, "_command", lambda verb: signal.raise_signal(signal.Signals[sent]))
    with pytest.raises(SystemExit) as left:
        main.run(["inspect", "m.onnx"])
    assert left.value.code == code
