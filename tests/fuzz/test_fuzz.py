"""Whatever lies in a file, it gives a result that is one, or an error in words.

Never another exception, and never half a result: what was read can be used, and is read again as
the same once it is written.

`make test` tries a few dozen spoilt files of each kind, the same each time. Thousands, others each
time, and for longer than anybody wants to wait:

    SEGEDGE_FUZZ=2000 .venv-test/bin/pytest tests/fuzz -p no:randomly
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segedge.errors import SegedgeError
from tests.fuzz.mutate import spoilt_bytes
from tests.fuzz.rules import FEW, read_by, survives, survives_spoilt
from tests.video.video_clips import gradient_images, write_clip


def _read_all(path: Path) -> None:
    from segedge.video.sources.open import open_source

    with closing(open_source(path)) as source:
        frames = list(source.frames())
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert len({frame.size for frame in frames} | {source.info.size} - {None}) <= 1
        for frame in frames:
            assert frame.image_hwc.dtype == np.uint8
            assert frame.image_hwc.shape == (*frame.size, 3)
        assert frames or source.failures, "nothing, and nobody says why"
        for failure in source.failures:
            assert failure.reason.strip()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_images(suffix: str, folder: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    ok, encoded = cv2.imencode(suffix, image)
    assert ok
    read = read_by(folder / f"image{suffix}", _read_all)
    read(encoded.tobytes())
    survives_spoilt(read, spoilt_bytes(encoded.tobytes()), FEW)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_videos(suffix: str, folder: Path) -> None:
    whole = write_clip(folder / f"whole{suffix}", gradient_images(6)).read_bytes()
    _read_all(folder / f"whole{suffix}")
    survives_spoilt(read_by(folder / f"video{suffix}", _read_all), spoilt_bytes(whole), FEW)


def test_label_files(folder: Path) -> None:
    from segedge.measure.datasets.label_file import read_label_file

    labels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    ok, encoded = cv2.imencode(".png", labels)
    assert ok

    def look(path: Path) -> Any:
        found = read_label_file(path)
        assert found.size
        assert found.dtype in (np.uint8, np.uint16)
        assert found.ndim == 2 or (found.shape[2:], found.dtype) == ((3,), np.uint8)
        return found

    read = read_by(folder / "labels.png", look)
    assert np.array_equal(read(encoded.tobytes()), labels)
    survives_spoilt(read, spoilt_bytes(encoded.tobytes()))


def test_class_files(folder: Path) -> None:
    from segedge.card.labels import read_classes

    def look(path: Path) -> Any:
        found = read_classes(path)
        assert len(set(found.names)) == len(found.names) == len(found.palette_rgb) > 0
        assert all(name.strip() for name in found.names)
        assert all(0 <= value <= 255 for color in found.palette_rgb for value in color)
        return found

    right = b"road 128 64 128\ncar 0 0 142\nstreet light\n"
    read = read_by(folder / "classes.txt", look)
    assert read(right).names == ("road", "car", "street light")
    survives_spoilt(read, spoilt_bytes(right))


def test_lists_of_inputs(folder: Path) -> None:
    from segedge.batch.inputs import find_inputs

    (folder / "a.png").write_bytes(b"x")

    def look(path: Path) -> Any:
        found, missing = find_inputs([str(path)])
        assert len({file.path for file in found}) == len(found) > 0
        assert all(Path(file.path).is_file() for file in found)
        assert all(failure.reason.strip() for failure in missing)
        return len(found), len(missing)

    right = b"a.png\n# a comment\n*.png\nsub/b.mp4\n"
    read = read_by(folder / "inputs.txt", look)
    assert read(right) == (1, 2)
    survives_spoilt(read, spoilt_bytes(right))


def test_lists_of_a_data_set(folder: Path) -> None:
    """Pascal VOC names its images in text files."""
    from segedge.measure.datasets.layouts import list_layout

    voc = folder / "voc"
    lists = voc / "ImageSets" / "Segmentation"
    for sub in (lists, voc / "JPEGImages", voc / "SegmentationClass"):
        sub.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(voc / "JPEGImages" / "a.jpg"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(voc / "SegmentationClass" / "a.png"), np.zeros((4, 4), np.uint8))

    def look(_: Path) -> Any:
        listing = list_layout(voc, layout="voc")
        assert all(path.is_file() for pair in listing.pairs for path in pair)
        return listing

    read = read_by(lists / "val.txt", look)
    assert [image.name for image, _ in read(b"a\n").pairs] == ["a.jpg"]
    survives_spoilt(read, spoilt_bytes(b"a\n"))


def test_a_failure_is_seen() -> None:
    """The rule itself: another exception comes through."""

    def read(_: object) -> None:
        raise OverflowError

    with pytest.raises(OverflowError):
        survives(read, b"")

    def refuse(words: tuple[str, str]) -> None:
        raise SegedgeError(words[0], facts={"found": words[1]})

    survives(refuse, ("a fact", "a number"))
    for speechless in (("", "x"), ("two\nlines", "x"), ("a fact", "")):
        with pytest.raises(AssertionError):
            survives(refuse, speechless)
