"""A model, clips and an archive's facts: what the tests of archives share."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("pyarrow", reason="pip install 'segedge[batch]'")
pytest.importorskip("fsspec", reason="pip install 'segedge[batch]'")

from tests.batch.archives import moving, write_video
from tests.small_model import write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("batch") / "small.onnx")


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``drives/``: a video of several key frames, one of one, and a folder of five images."""
    root = tmp_path_factory.mktemp("inputs") / "drives"
    (root / "stills").mkdir(parents=True)
    write_video(root / "long.mp4", moving(36), key_every=6)
    write_video(root / "short.mp4", moving(8, seed=1), key_every=50)
    for number, image in enumerate(moving(5, seed=2)):
        cv2.imwrite(str(root / "stills" / f"{number + 7}.png"), image)
    return root
