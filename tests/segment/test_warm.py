"""`segedge warm` keeps all that a run compiles; a run after it compiles nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from segedge.errors import SinkError
from segedge.segment import warm as module
from segedge.segment.warm import warm
from tests.processes import ended
from tests.small_model import write_model

pytest.importorskip("onnx", reason="onnx is not installed: segedge[export]")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: segedge[cpu]")
ROOT = Path(__file__).parents[2]


def segedge(folder: Path, *words: str) -> str:
    done = ended(
        [sys.executable, "-m", "segedge", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SEGEDGE_CACHE_DIR": str(folder / "baked")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_after_it_compiles_nothing(tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "image.png"), np.full((60, 90, 3), 90, np.uint8))
    words = ("warm", "model.onnx", "--backend", "onnxruntime")
    warmed = json.loads(segedge(tmp_path, *words, "--json"))
    assert warmed["folder"] == str(tmp_path / "baked")
    assert warmed["kernels"] == warmed["compiled"] >= 3
    assert warmed["models"][0]["backend"] == "onnxruntime"
    kept = sorted((tmp_path / "baked").rglob("*.kernel"))
    run = ("run", "model.onnx", "image.png", "--backend", "onnxruntime", "-o")
    segedge(tmp_path, *run, "overlay.png")
    segedge(tmp_path, *run, "masks/")
    assert sorted((tmp_path / "baked").rglob("*.kernel")) == kept
    assert "0 of them new" in segedge(tmp_path, *words)


def test_a_folder_that_cannot_be_written_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To compile for nothing is not what was asked for."""
    from segedge.machine.cache_folder import CacheFolder

    folder = CacheFolder(tmp_path, "SEGEDGE_CACHE_DIR", "it is read-only")
    monkeypatch.setattr(module, "cache_folder", lambda: folder)
    with pytest.raises(SinkError, match="nothing that is compiled can be kept"):
        warm()
