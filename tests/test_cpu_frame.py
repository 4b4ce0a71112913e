"""The benchmarks' own preparation; nothing here is timed."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def cpu_frame(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("cpu_frame")


def test_the_frame_benchmark_runs_without_the_shared_models(
    cpu_frame: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The bundled network and clip take their place, and all forms of it compute the same."""
    monkeypatch.setattr(cpu_frame, "SHARED", tmp_path / "absent")
    cpu_frame.prepare(tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    assert {"frame.png", "whole.onnx", "argmax.onnx", "cut.onnx"} <= made
    image = cpu_frame.cv2.imread(str(tmp_path / "frame.png"))
    tensor = cpu_frame.preprocess_usual(image)
    logits = cpu_frame.open_ort("whole.onnx")(tmp_path)(tensor)
    labels = cpu_frame.open_ort("argmax.onnx")(tmp_path)(tensor)
    assert logits.shape == (1, len(cpu_frame.palette_bgr(tmp_path)), *cpu_frame.NETWORK_SIZE)
    assert (logits.argmax(axis=1) == labels).all()
    step = cpu_frame.segedge_variant("onnxruntime")(tmp_path)
    assert step()["frame"] > 0


def test_the_torch_script_computes_what_the_onnx_scripts_do(
    cpu_frame: ModuleType, tmp_path: Path
) -> None:
    """The shared program was exported at another size than the benchmark's."""
    if not (cpu_frame.SHARED / "models").is_dir():
        pytest.skip("../shared/models is absent")
    cpu_frame.prepare(tmp_path)
    tensor = cpu_frame.preprocess_usual(cpu_frame.cv2.imread(str(tmp_path / "frame.png")))
    ours = cpu_frame.open_torch(tmp_path)(tensor)
    theirs = cpu_frame.open_ort("argmax.onnx")(tmp_path)(tensor)
    assert (ours == theirs).mean() > 0.9999
