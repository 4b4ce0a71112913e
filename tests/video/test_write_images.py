"""Overlays and label maps as files, read back by Pillow."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from video_clips import FakeResult

from segedge.errors import SinkError, UsageError
from segedge.frames.frame import Frame
from segedge.video.sinks.images import FolderSink, ImageSink
from segedge.video.sinks.png import encode_labels_png

BLANK = np.zeros((4, 6, 3), np.uint8)
PALETTE = ((128, 64, 128), (244, 35, 232), (70, 70, 70))


def decoded(data: bytes, path: Path) -> Image.Image:
    path.write_bytes(data)
    return Image.open(path)


@settings(max_examples=60, deadline=None)
@given(
    labels=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]), st.tuples(st.integers(1, 40), st.integers(1, 40))
    )
)
def test_grey_pngs_read_back(
    labels: NDArray[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    read = np.asarray(decoded(encode_labels_png(labels), path))
    assert np.array_equal(read, labels)
    assert read.dtype.itemsize == labels.dtype.itemsize
    assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), labels)


def test_palette_png_has_indices_and_colours(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    image = decoded(encode_labels_png(labels, palette_rgb=PALETTE), tmp_path / "a.png")
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), labels)
    rgb = np.asarray(image.convert("RGB"))
    assert rgb[0].tolist() == [list(color) for color in PALETTE]
    assert rgb[1, 1].tolist() == [0, 0, 0]  # the ignore label


def test_labels_that_are_a_view(tmp_path: Path) -> None:
    labels = np.arange(200, dtype=np.uint8).reshape(10, 20)[::2, 3:17]
    assert np.array_equal(np.asarray(decoded(encode_labels_png(labels), tmp_path / "a")), labels)


def test_too_many_classes_for_a_palette() -> None:
    with pytest.raises(UsageError, match="at most 256 classes") as caught:
        encode_labels_png(np.zeros((2, 2), np.uint16), palette_rgb=((0, 0, 0),) * 300)
    assert caught.value.facts["found"] == "300 classes, uint16 labels"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_overlay_image(tmp_path: Path, suffix: str) -> None:
    image = np.full((40, 60, 3), (200, 100, 30), np.uint8)
    sink = ImageSink(tmp_path / "new folder" / f"ä{suffix}")
    frame = Frame(image)
    sink.write(frame, FakeResult(image=image))
    sink.close()
    read = np.asarray(Image.open(sink.paths[0]).convert("RGB"))
    assert np.abs(read.astype(int) - (30, 100, 200)).max() <= 3
    assert frame.times.milliseconds["encode"] > 0


def test_a_second_frame_does_not_fit_one_image(tmp_path: Path) -> None:
    sink = ImageSink(tmp_path / "a.png")
    sink.write(Frame(BLANK), FakeResult())
    with pytest.raises(SinkError, match="the source has more frames") as caught:
        sink.write(Frame(BLANK, index=1), FakeResult())
    assert caught.value.fix == f"-o {tmp_path}/a/ writes one image a frame"


def test_folder_names(tmp_path: Path) -> None:
    """An image's stem, a video's number; nothing is overwritten within one run."""
    out = tmp_path / "masks"
    sink = FolderSink(out, picture="palette")
    names = ["x/0001.png", "y/0001.png", "y/0001.jpg", "x/0001.png", "z/Ä.png"]
    for index, name in enumerate(names):
        sink.write(Frame(BLANK, index=index, name=name), FakeResult())
    sink.write(Frame(BLANK, index=123, name="v.mp4", pts_seconds=4.1), FakeResult())
    sink.write(Frame(BLANK, index=124), FakeResult())
    images = {"0001.png", "y_0001.png", "y_0001_jpg.png", "x_0001.png", "Ä.png"}
    assert {path.name for path in out.iterdir()} == images | {"000123.png", "000124.png"}
    assert sink.paths == (out,)


def test_folder_of_overlays_is_jpeg(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path / "o")
    sink.write(Frame(BLANK, name="a.png"), FakeResult())
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["a.jpg"]


def test_the_image_that_was_read_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), BLANK)
    before = path.read_bytes()
    with pytest.raises(SinkError, match="is the image that was read"):
        FolderSink(tmp_path, picture="labels").write(Frame(BLANK, name=str(path)), FakeResult())
    assert path.read_bytes() == before


def test_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ImageSink(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"before")

    def refuse(self: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(SinkError, match="the disk is full: cannot write") as caught:
        sink.write(Frame(BLANK), FakeResult())
    assert caught.value.facts["needed"] == "0.1 kB"
    assert "MB on the disk of" in caught.value.facts["free"]
    assert (tmp_path / "a.png").read_bytes() == b"before"
    assert sink.paths == ()


def test_really_full_disk(tiny_disk: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    sink = FolderSink(tiny_disk / "o", suffix=".png")
    with pytest.raises(SinkError, match="the disk is full") as caught:
        sink.write(Frame(noise), FakeResult(image=noise))
    assert caught.value.facts["needed"] == "0.8 MB"
    assert list((tiny_disk / "o").iterdir()) == []
