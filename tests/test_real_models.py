"""The really trained CamVid network, adopted and run as a user does, against its README."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.fast_export import hasten_exports
from tests.small_model import run_verb

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SHARED = Path(__file__).resolve().parents[2] / "shared"
VAL, MODELS = SHARED / "data" / "camvid" / "val", SHARED / "models"
CLIP = SHARED / "data" / "video" / "car-detection.mp4"
CLASSES, VOID = 11, 11
README_MIOU, README_ACCURACY, TOLERANCE = 61.50, 90.44, 0.2

pytestmark = pytest.mark.skipif(
    not (VAL.is_dir() and MODELS.is_dir()), reason="../shared/data or ../shared/models is absent"
)


@pytest.fixture(scope="module", params=["fastscnn_camvid.pt2", "fastscnn_camvid.onnx"])
def adopted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Either form of the network, exported with parity on real images."""
    if request.param.endswith(".pt2"):
        pytest.importorskip("onnxscript")
        hasten_exports()
    path = tmp_path_factory.mktemp("real") / "camvid.onnx"
    options = ("--classes", "camvid", "--verify", VAL / "images", "--json")
    report = json.loads(run_verb("export", MODELS / request.param, "-o", path, *options).stdout)
    assert report["card"]["parity"]["agreement"] == 1.0
    assert report["tail"]["cut"]
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "openvino:f32"])
def test_miou_on_camvid_val(adopted: Path, backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend.partition(":")[0])
    folder = tmp_path / "masks"
    words = ("-o", folder, "--masks", "labels", "--backend", backend)
    run_verb("run", adopted, VAL / "images", *words)
    miou, accuracy = scores(folder)
    assert abs(miou - README_MIOU) < TOLERANCE
    assert abs(accuracy - README_ACCURACY) < TOLERANCE


@pytest.mark.parametrize("adopted", ["fastscnn_camvid.onnx"], indirect=True)
def test_the_clip(adopted: Path, tmp_path: Path) -> None:
    out = tmp_path / "overlay.mp4"
    facts = json.loads(run_verb("run", adopted, CLIP, "-o", out, "--legend", "--json").stdout)
    assert (facts["read"], facts["written"], facts["dropped"]) == (377, 377, 0)
    capture = cv2.VideoCapture(str(out))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 377
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)


def scores(folder: Path) -> tuple[float, float]:
    """(mIoU, pixel accuracy) in per cent of a folder of label PNGs; void pixels do not count."""
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    truths = sorted((VAL / "labels").glob("*.png"))
    for truth_path in truths:
        found = cv2.imread(str(folder / truth_path.name), cv2.IMREAD_UNCHANGED)
        truth = cv2.imread(str(truth_path), cv2.IMREAD_UNCHANGED)
        assert found.shape == truth.shape
        counted = truth != VOID
        pairs = truth[counted].astype(np.int64) * CLASSES + found[counted]
        matrix += np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    assert len(truths) == 101
    hits = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    return float(100 * (hits / union).mean()), float(100 * hits.sum() / matrix.sum())
