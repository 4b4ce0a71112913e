"""Fixtures of the video tests: clips made on the spot, the real one, a full disk."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from push_receiver import Receiver
from video_clips import gradient_images, write_clip

REAL_CLIP = Path(__file__).parents[3] / "shared/data/video/car-detection.mp4"


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "clip.mp4", count: int = 30, **options: Any) -> Path:
        images = options.pop("images", None) or gradient_images(count)
        return write_clip(tmp_path / name, images, **options)

    return make


@pytest.fixture
def real_clip() -> Path:
    if not REAL_CLIP.exists():
        pytest.skip(f"{REAL_CLIP} is absent: real data is not part of the repository")
    return REAL_CLIP


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    # Lazily: PyAV leaks the descriptor of a file whose header could not be written.
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Of pushes over TCP."""
    server = Receiver()
    yield server
    if server._thread.is_alive():
        server.stop()
