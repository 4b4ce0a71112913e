"""A model, clips and an archive's facts: what the tests of archives share."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("pyarrow", reason="pip install 'segedge[batch]'")
pytest.importorskip("fsspec", reason="pip install 'segedge[batch]'")

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


def moving(count: int, *, seed: int = 0, height: int = 48, width: int = 64) -> list[NDArray]:
    """Images with a bright square on its way through noise."""
    random = np.random.default_rng(seed)
    ground = random.integers(0, 90, (height, width, 3), np.uint8)
    images = []
    for index in range(count):
        image = ground.copy()
        x, y = (index * 3) % (width - 16), (index * 2) % (height - 16)
        image[y : y + 16, x : x + 16] = 230
        images.append(image)
    return images


def write_video(
    path: Path, images: list[NDArray], *, key_every: int, b_frames: int = 2, options: str = ""
) -> Path:
    """H.264 with key frames every so many frames."""
    from segedge.video.ffmpeg import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        parameters = f"keyint={key_every}:min-keyint=1:scenecut=0:bframes={b_frames}"
        stream.options = {"x264-params": parameters + (f":{options}" if options else "")}
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    """Relative name to bytes of every file."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)}
