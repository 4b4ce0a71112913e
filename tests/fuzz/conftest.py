"""Every file of these tests lies in one folder; the libraries keep quiet about broken ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from tests.small_model import write_model


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """OpenCV and NumPy tell of broken files and numbers on their own; that is not the question."""
    before = cv2.getLogLevel() if hasattr(cv2, "getLogLevel") else None
    if before is not None:
        cv2.setLogLevel(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    if before is not None:
        cv2.setLogLevel(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return write_model(folder / "whole.onnx")
