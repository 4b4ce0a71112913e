"""A small model that is measured again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_model import write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, dark and bright; without onnx its tests are skipped."""
    pytest.importorskip("onnx")
    return write_model(tmp_path_factory.mktemp("measure") / "small.onnx")
