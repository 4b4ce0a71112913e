"""What `segedge run` does not load, so that the first frame is there soon."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.processes import ended
from tests.small_model import write_model

pytest.importorskip("onnx", reason="onnx is not installed: segedge[export]")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: segedge[cpu]")

CODE = """
import sys
from segedge.cli.main import run
try:
    run(sys.argv[1:])
except SystemExit as left:
    assert left.code == 0, left
print([name for name in ("numba", "llvmlite", "scipy") if name in sys.modules])
"""


def loaded(folder: Path, *words: str) -> str:
    cv2.imwrite(str(folder / "image.png"), np.full((48, 64, 3), 90, np.uint8))
    write_model(folder / "model.onnx")
    command = ["run", str(folder / "model.onnx"), str(folder / "image.png"), *words]
    done = ended([sys.executable, "-c", CODE, *command])
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_an_image_needs_no_compiler(tmp_path: Path) -> None:
    assert loaded(tmp_path, "-o", str(tmp_path / "overlay.png")) == "[]"
    assert (tmp_path / "overlay.png").is_file()


def test_masks_neither(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    assert loaded(tmp_path, "-o", str(tmp_path / "masks"), "--masks", "labels") == "[]"
