"""Still images as a source."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segedge.errors import SourceError, UsageError
from segedge.video.sources.images import (
    ImageFiles,
    images_in_folder,
    images_matching,
    quiet_opencv,
    read_image,
)


@pytest.fixture
def image() -> NDArray[np.uint8]:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:10] = (10, 200, 90)
    return image


def save(path: Path, image: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def test_folder_in_natural_order(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    for name in ("img10.png", "img9.png", "Img1.png", "notes.txt", "._img2.png"):
        save(tmp_path / name, image) if name.endswith(".png") else (tmp_path / name).touch()
    source = images_in_folder(tmp_path)
    frames = list(source.frames())
    assert [Path(frame.name).name for frame in frames] == ["Img1.png", "img9.png", "img10.png"]
    assert source.info.kind == "images"
    assert source.info.frame_count == 3
    assert source.info.name == str(tmp_path)
    assert all(frame.pts_seconds is None for frame in frames)
    assert all(frame.times.milliseconds["decode"] > 0 for frame in frames)


def test_pattern_with_folders(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    save(tmp_path / "b/x.png", image)
    save(tmp_path / "a/deep/y.png", image)
    (tmp_path / "a/z.txt").touch()
    frames = images_matching(f"{tmp_path}/**/*").frames()
    assert [Path(frame.name).name for frame in frames] == ["y.png", "x.png"]


def test_unreadable_ones_are_recorded_and_skipped(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    save(tmp_path / "1.png", image)
    (tmp_path / "2.png").write_bytes(b"not an image")
    (tmp_path / "3.png").touch()
    save(tmp_path / "4.jpg", image)
    source = images_in_folder(tmp_path)
    assert [frame.index for frame in source.frames()] == [0, 3]
    assert [(Path(f.name).name, f.reason) for f in source.failures] == [
        ("2.png", "12 bytes that are no readable image"),
        ("3.png", "empty file (0 bytes)"),
    ]
    list(source.frames())
    assert len(source.failures) == 2  # of the latest iteration, not added up


def test_opencv_is_quiet_about_them(
    tmp_path: Path, image: NDArray[np.uint8], capfd: pytest.CaptureFixture[str]
) -> None:
    good = save(tmp_path / "1.tif", image)
    bad = tmp_path / "2.tif"
    bad.write_bytes(good.read_bytes()[:-40])
    with pytest.raises(SourceError):
        read_image(bad)
    assert capfd.readouterr().err == ""


def test_nothing_readable(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"junk")
    with pytest.raises(SourceError, match="none of 2 images can be read") as caught:
        list(images_in_folder(tmp_path).frames())
    assert "a.png: 4 bytes that are no readable image" in caught.value.facts["first"]


def test_one_unreadable_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(SourceError, match="cannot read image") as caught:
        list(ImageFiles([tmp_path / "a.png"]).frames())
    assert caught.value.facts == {"found": "4 bytes that are no readable image"}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_files_are_unreadable(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    path = save(tmp_path / f"a{suffix}", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(SourceError, match="cannot read image"):
        read_image(path)


def test_truncated_jpeg_with_a_whole_thumbnail(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    """The end marker of the thumbnail is not the end of the image."""
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    thumbnail = cv2.imencode(".jpg", image)[1].tobytes()
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Exif\0\0" + thumbnail
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + exif + data[2:])
    assert read_image(path).shape == (60, 80, 3)
    path.write_bytes((data[:2] + exif + data[2:])[:-500])
    with pytest.raises(SourceError) as caught:
        read_image(path)
    assert "truncated JPEG" in caught.value.facts["found"]


def test_sixteen_bits_grey_and_alpha(tmp_path: Path) -> None:
    grey = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 100
    read = read_image(save(tmp_path / "a.png", grey))
    assert read.dtype == np.uint8
    assert np.array_equal(read, np.repeat((grey >> 8)[..., None], 3, axis=2))
    color = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    assert np.array_equal(read_image(save(tmp_path / "b.png", color)), color[..., :3])


def test_exif_orientation(tmp_path: Path) -> None:
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :16] = 255
    data = cv2.imencode(".jpg", image)[1].tobytes()
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)  # orientation 6: turn clockwise
    tiff = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 1) + entry + struct.pack(">I", 0)
    exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + exif + data[2:])
    assert read_image(path).shape == (32, 16, 3)
    assert read_image(path)[:16].mean() > 250


def test_unicode_name(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    path = save(tmp_path / "straße 街.png", image)
    assert np.array_equal(read_image(path), image)


def test_closing_ends_an_iteration(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    source = ImageFiles([save(tmp_path / f"{k}.png", image) for k in range(3)])
    frames = source.frames()
    next(frames)
    source.close()
    assert list(frames) == []


def test_empty_list() -> None:
    with pytest.raises(UsageError, match="no image was given"):
        ImageFiles([])


def test_decoding_in_threads_leaves_opencv_its_log_level() -> None:
    """The level is the process's: whoever leaves first must not take another's silence for it."""
    before = cv2.utils.logging.getLogLevel()
    with ExitStack() as second:
        with quiet_opencv():
            second.enter_context(quiet_opencv())
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT
    assert cv2.utils.logging.getLogLevel() == before
