"""`segedge eval` as a user types it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

import segedge
from segedge.card.modelfile import read_metadata
from segedge.measure.datasets.datasets import open_dataset
from segedge.measure.evaluate.evaluate import evaluate
from tests.small_model import run_verb

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SHARED = Path(__file__).parents[4] / "shared"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images, dark to the left; the labels of the last are wrong everywhere."""
    folder = tmp_path / "set"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        truth = np.zeros((48, 64), np.uint8)
        truth[:, 32:] = 1
        image = cv2.cvtColor(truth * 255, cv2.COLOR_GRAY2BGR)
        cv2.imwrite(str(folder / f"images/{number}.png"), image)
        cv2.imwrite(str(folder / f"labels/{number}.png"), 1 - truth if number == 2 else truth)
    return folder


run = partial(run_verb, "eval")


def test_scores_of_known_images(model: Path, data: Path, tmp_path: Path) -> None:
    done = run(model, data, "--backend", "onnxruntime", "-o", tmp_path / "eval.json")
    facts = json.loads((tmp_path / "eval.json").read_text())
    assert facts["images"] == 3
    assert facts["pixels"] == 3 * 48 * 64
    assert facts["pixel_accuracy"] == pytest.approx(2 / 3, abs=0.03)
    assert facts["worst"][0]["image"] == "images/2.png"
    assert facts["worst"][0]["miou"] == pytest.approx(0.0, abs=0.05)
    assert facts["backend"] == "onnxruntime"
    assert len(facts["sha256"]) == 64
    assert str(tmp_path) not in (tmp_path / "eval.json").read_text()
    assert max(map(len, done.stdout.splitlines())) <= 100 + len(str(model))
    for text in ("mIoU", "dark", "bright", "boundary", "images/2.png", "next"):
        assert text in done.stdout


def test_what_is_missing_is_named_and_counted(model: Path, data: Path) -> None:
    (data / "labels/1.png").unlink()
    (data / "images/0.png").write_bytes(b"no image")
    done = run(model, data, "--json", code=1)
    facts = json.loads(done.stdout)
    assert facts["missing"] == ["images/1.png"]
    assert [failure["image"] for failure in facts["failures"]] == ["images/0.png"]
    assert facts["images"] == 1


def test_bad_input(model: Path, data: Path, tmp_path: Path) -> None:
    cases: list[tuple[tuple[object, ...], str]] = [
        ((model, tmp_path / "absent"), "no data set at"),
        ((model, data, "--layout", "vok"), "did you mean 'voc'"),
        ((model, data, "--limit", 0), "--limit must be at least 1"),
        ((model, data, "--map", "sky=dark"), "sky"),
        ((model, data, "--backend", "opnvino"), "did you mean 'openvino'"),
        ((model, data, "-o", tmp_path / "no" / "a.json"), "no folder"),
        ((tmp_path / "absent.onnx", data), "absent.onnx"),
    ]
    for words, message in cases:
        assert message in run(*words, code=2).stderr
    cv2.imwrite(str(data / "labels/1.png"), np.zeros((24, 64), np.uint8))
    error = run(model, data, code=2).stderr
    assert "images/1.png: image and labels have different sizes" in error
    assert "24x64" in error


def test_progress_limit_and_classes(model: Path, data: Path) -> None:
    seen: list[tuple[int, int]] = []
    with segedge.load(model, backend="onnxruntime") as segmenter:
        dataset = open_dataset(data, card_classes=segmenter.card.classes)
        found = evaluate(
            segmenter, dataset, limit=2, boundary=False, progress=lambda *now: seen.append(now)
        )
        assert [image.name for image in found.images] == ["images/0.png", "images/1.png"]
        assert seen[-1] == (2, 2)
        assert found.boundary_f is None
        other = open_dataset(data, card_classes=("x", "y"))
        with pytest.raises(segedge.SegedgeError, match="opened for another model"):
            evaluate(segmenter, other)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not beside the repository")
def test_the_real_model_scores_as_its_authors_say(tmp_path: Path) -> None:
    """CamVid val, class by class, against the figures that came with the network."""
    pytest.importorskip("onnxscript")
    from segedge.convert import ExportOptions, export

    path = tmp_path / "m.onnx"
    source = SHARED / "models/fastscnn_camvid.onnx"
    export(source, path, options=ExportOptions(classes="camvid"))
    assert read_metadata(path)
    with segedge.load(path, backend="onnxruntime") as segmenter:
        card = segmenter.card
        dataset = open_dataset(
            SHARED / "data/camvid/val", card_classes=card.classes, ignore_index=card.ignore_index
        )
        assert len(dataset) == 101
        found = evaluate(segmenter, dataset, boundary=False)
    assert 100 * found.miou == pytest.approx(61.50, abs=0.2)
    assert 100 * found.pixel_accuracy == pytest.approx(90.44, abs=0.2)
    expected = (92.8, 79.6, 2.2, 95.0, 83.9, 88.6, 31.8, 54.5, 63.8, 27.3, 57.2)
    assert [100 * (value or 0.0) for value in found.iou.values()] == pytest.approx(
        expected, abs=0.3
    )
