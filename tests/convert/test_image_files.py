"""Which files a folder of images stands for."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from segedge.convert.images import image_files
from segedge.errors import SourceError


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images", "labels"), ("train", "trainannot"), ("leftImg8bit/val/ulm", "gtFine/val/ulm"),
        ("JPEGImages", "SegmentationClass"), ("images/training", "annotations/training"),
        ("701_StillsRaw_full", "LabeledApproved_full"), (".", "Masks"),
    ],
)  # fmt: skip
def test_labels_beside_images_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, images: str, labels: str
) -> None:
    put(*(tmp_path / images / f"{n}.png" for n in range(3)))
    put(*(tmp_path / labels / f"{n}.png" for n in range(2)))
    caplog.set_level(logging.INFO, "segedge")
    found = image_files(tmp_path, 99)
    assert [file.relative_to(tmp_path / images).name for file in found] == [
        "0.png", "1.png", "2.png"
    ]  # fmt: skip
    assert f"2 files of {labels.split('/')[0]}/" in caplog.text
    caplog.clear()
    assert len(image_files(tmp_path / labels.split("/")[0], 99)) == 2
    assert image_files(f"{tmp_path}/{labels}/*.png", 99)
    assert not caplog.text


def test_nothing_but_labels(tmp_path: Path) -> None:
    put(tmp_path / "labels/0.png")
    with pytest.raises(SourceError, match="no images at") as caught:
        image_files(tmp_path, 9)
    assert caught.value.facts["left out"] == "1 files of labels/: labels"
