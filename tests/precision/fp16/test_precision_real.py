"""A really trained network in fp16: its labels and its mIoU on CamVid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from precision_helpers import build_rtx, emulated, open_model, require_sound, to_fp16

SHARED = Path(__file__).parents[4] / "shared"
CLASSES, IGNORE, EVERY = 11, 11, 4
SIZES = {"fastscnn_camvid": (352, 480), "fastscnn_camvid_512x1024": (512, 1024)}

pytestmark = pytest.mark.skipif(
    not (SHARED / "models/fastscnn_camvid.onnx").exists(), reason="no ../shared/models here"
)


def preprocessed(path: Path, size: tuple[int, int]) -> Any:
    """As ../shared/models/README.md says."""
    rgb = cv2.imread(str(path))[:, :, ::-1].astype(np.float32) / 255
    rgb = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_LINEAR)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(((rgb - mean) / std).transpose(2, 0, 1)[None])


def camvid(every: int) -> list[tuple[Path, Path]]:
    folder = SHARED / "data/camvid/val"
    if not folder.exists():
        pytest.skip("no ../shared/data/camvid here")
    pairs = zip(sorted(folder.glob("images/*")), sorted(folder.glob("labels/*")), strict=True)
    return list(pairs)[::every]


def miou(confusion: Any) -> float:
    """Mean intersection over union of all classes, in points."""
    hits = np.diag(confusion)
    return float(100 * np.mean(hits / (confusion.sum(0) + confusion.sum(1) - hits)))


def labels(logits: Any, shape: tuple[int, ...]) -> Any:
    planes = cv2.resize(logits[0].transpose(1, 2, 0), shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return planes.argmax(2)


@pytest.mark.parametrize("name", SIZES)
def test_a_trained_network_keeps_its_labels_and_builds(name: str) -> None:
    model = onnx.load(SHARED / f"models/{name}.onnx")
    every, count = (13, 8) if name == "fastscnn_camvid" else (51, 2)
    tensors = [preprocessed(image, SIZES[name]) for image, _ in camvid(every)]
    half, report = to_fp16(model, images=tensors)
    require_sound(half)
    parity = report.check.parity
    print(*report.lines(), sep="\n")
    assert (parity.images, parity.kind) == (count, "images")
    assert parity.agreement > 0.999
    assert report.overflow is None
    assert build_rtx(model) == ""
    assert build_rtx(half) == ""


def test_miou_in_fp16_is_that_of_fp32() -> None:
    model = onnx.load(SHARED / "models/fastscnn_camvid.onnx")
    pairs = camvid(EVERY)
    assert len(pairs) >= 24
    tensors = [preprocessed(image, SIZES["fastscnn_camvid"]) for image, _ in pairs]
    half, _ = to_fp16(model, images=tensors[::9])
    sessions = [open_model(model), open_model(emulated(half))]
    confusions = [np.zeros((CLASSES, CLASSES), np.int64) for _ in sessions]
    for tensor, (_, path) in zip(tensors, pairs, strict=True):
        truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        valid = truth != IGNORE
        for session, confusion in zip(sessions, confusions, strict=True):
            guess = labels(session.run(None, {"image": tensor})[0], truth.shape)
            index = truth[valid].astype(np.int64) * CLASSES + guess[valid]
            confusion += np.bincount(index, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    wide, narrow = map(miou, confusions)
    print(f"mIoU on {len(pairs)} images: fp32 {wide:.3f}, fp16 {narrow:.3f}")
    assert wide > 50
    assert abs(wide - narrow) <= 0.05
