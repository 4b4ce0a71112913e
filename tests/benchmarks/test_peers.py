"""The ways of peers.py draw the same pictures; what they are judged by; one run end to end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Load = Callable[[str], ModuleType]
EXACT = 1.0


def drawn(load: Load, way: Any, folder: Path) -> Any:
    problem = way.problem()
    if problem is not None:
        pytest.skip(problem)
    scene = load("frames.scenes").Scene.load(folder)
    return way.open(scene)(scene.frames[0])


def compared(load: Load, ways: dict[str, Any], name: str, folder: Path) -> Any:
    reference = drawn(load, ways["segedge, ONNX Runtime"], folder)
    picture = drawn(load, ways[name], folder)
    assert picture.times["frame"] > 0
    return load("frames.compare").agreement(
        picture.labels(), picture.overlay, reference.labels(), reference.overlay
    )


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("segedge, OpenVINO f32", 0.999),
        ("PyTorch script", 0.97),
        ("PyTorch script, smooth", 0.99),
        ("ONNX Runtime script", 0.97),
        ("ONNX Runtime script, argmax inside", 0.97),
        ("ONNX Runtime script, smooth", 0.99),
        ("OpenVINO script, argmax inside", 0.97),
        ("OpenVINO Model API", 0.97),
        ("OpenVINO Model API, labels only", 0.97),
    ],
)
def test_cpu_ways_draw_the_same(load: Load, street: Path, name: str, least: float) -> None:
    found = compared(load, load("frames.scripts").CPU_WAYS, name, street)
    assert found.labels >= least, found.text
    assert found.overlay >= found.labels - 1e-3
    assert found.is_explained, found.text


@pytest.mark.parametrize(
    "name", ["Hugging Face pipeline", "Hugging Face classes", "ONNX Runtime script"]
)
def test_segformer_ways_draw_the_same(load: Load, segformer: Path, name: str) -> None:
    found = compared(load, load("frames.transformer").SEGFORMER_WAYS, name, segformer)
    assert found.labels >= 0.95, found.text
    assert found.is_explained, found.text


def test_opencv_runs_or_its_pictures_are_called_wrong(load: Load, street: Path) -> None:
    """OpenCV 5.0.0 gives noise for this network: then it must not be timed."""
    found = compared(load, load("frames.scripts").CPU_WAYS, "OpenCV DNN script", street)
    assert found.is_explained == (found.labels > 0.95)


def test_the_torch_script_computes_what_the_shared_onnx_file_does(
    load: Load, tmp_path: Path
) -> None:
    """The shared program was exported at another size than the benchmark's."""
    scenes, scripts = load("frames.scenes"), load("frames.scripts")
    if scenes.shared_fast_scnn() is None:
        pytest.skip("../shared/models is absent")
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    scenes.make_fast_scnn(tmp_path)
    scene = scenes.Scene.load(tmp_path)
    tensor = scripts.preprocess_usual(scene.frames[0], scene.network)
    ours = scripts.open_torch(scene)(tensor)
    theirs = scripts.open_ort("argmax.onnx")(scene)(tensor)
    assert (ours == theirs).mean() > 0.9999


def test_ways_that_need_a_gpu_say_so(load: Load) -> None:
    from segedge.machine.gpu import find_driver

    if find_driver().gpu is not None:
        pytest.skip("there is a GPU here")
    names, skipped = load("frames.run").ready_ways(load("frames.on_gpu").GPU_WAYS, None)
    assert names == []
    assert len(skipped) == 7
    assert all("needs an NVIDIA GPU: " in reason for reason in skipped.values())


def test_missing_libraries_are_named(load: Load) -> None:
    way = load("frames.way").Way(lambda scene: None, "x", modules=("json", "no_such_library"))
    assert way.problem() == "not installed: no_such_library"


# Agreement ------------------------------------------------------------------------------------


def regions() -> np.ndarray:
    labels = np.zeros((64, 96), np.uint8)
    labels[20:, :48] = 1
    labels[30:, 48:] = 2
    return labels


def painted(labels: np.ndarray) -> np.ndarray:
    return np.repeat(labels[..., None] * 50, 3, axis=2).astype(np.uint8)


def test_equal_pictures_agree(load: Load) -> None:
    labels = regions()
    found = load("frames.compare").agreement(labels, painted(labels), labels, painted(labels))
    assert (found.labels, found.overlay, found.at_borders) == (EXACT, EXACT, EXACT)
    assert found.is_same
    assert found.text == "labels 100.000% the same, overlay 100.000%"


def test_a_moved_border_is_explained(load: Load) -> None:
    labels = regions()
    moved = np.roll(labels, 1, axis=1)
    moved[:, 0] = labels[:, 0]
    found = load("frames.compare").agreement(moved, painted(moved), labels, painted(labels))
    assert not found.is_same
    assert found.is_explained
    assert found.at_borders == EXACT


def test_a_region_of_another_class_is_not_explained(load: Load) -> None:
    labels, other = regions(), regions()
    other[40:50, 5:20] = 3  # 2.4 % of the pixels, far from the borders in part
    found = load("frames.compare").agreement(other, painted(other), labels, painted(labels))
    assert found.labels > 0.95
    assert not found.is_explained


# Targets and the whole ------------------------------------------------------------------------


def test_targets_are_judged_by_the_fastest_and_by_the_fastest_that_is_smooth(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    peers, harness = load("peers"), load("harness")
    way, agreement = load("frames.way").Way, load("frames.compare").Agreement(0.998, 0.998, 1.0)
    ways = {
        "segedge": way(None, "segedge"), "segedge slow": way(None, "segedge"),
        "quick": way(None, "X"), "smooth": way(None, "X", is_smooth=True),
        "untimed": way(None, "X"),
    }  # fmt: skip
    medians = {"segedge": 2.0, "segedge slow": 9.0, "quick": 7.0, "smooth": 30.0}
    turns = harness.Turns({name: [{"frame": [ms] * 7}] for name, ms in medians.items()})
    verdicts = peers.judge(ways, turns, {"X": 4.0, "absent": 2.0}, dict.fromkeys(ways, agreement))
    found = [(v["way"], v["over"], v["found"], v["met"]) for v in verdicts]
    assert found == [("quick", "segedge", 3.5, False), ("smooth", "segedge", 15.0, True)]
    assert "not met  4x X: 3.5x quick, 99.80% labels equal" in capsys.readouterr().out


def test_peers_compares_then_times_and_saves(
    load: Load, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """End to end with workers; a way whose pictures are wrong has no time."""
    peers, document = load("peers"), load("document")

    def prepared(name: str, folder: Path, *, quick: bool) -> str:
        shutil.copytree(street, folder, dirs_exist_ok=True)
        return "a copy"

    monkeypatch.setattr(peers, "make_scene", prepared)
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    words = ["peers.py", "--quick", "--save", "--scene", "fast-scnn"]
    names = ["ONNX Runtime script", "CV-CUDA around PyTorch (GPU)"]
    only = [word for name in names for word in ("--only", name)]
    monkeypatch.setattr("sys.argv", words + only)
    assert peers.main() == 0
    out = capsys.readouterr().out
    assert out.index("the same, overlay") < out.index("frame ms")
    assert "skipped: CV-CUDA around PyTorch (GPU): " in out
    read = document.read_document(tmp_path / "peers-quick.json")
    timed = {figure.variant for figure in read.figures if figure.quantity == "frame"}
    assert timed == {"segedge, ONNX Runtime", "ONNX Runtime script"}
    assert read.details["fast-scnn"]["agreement"]["ONNX Runtime script"]["labels"] > 0.9
    assert 0 < read.details["fast-scnn"]["uniform_cells"] < 1
    assert "fast-scnn: CV-CUDA around PyTorch (GPU)" in read.skipped
