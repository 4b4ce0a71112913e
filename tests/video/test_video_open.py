"""What the user types, and what is said when it cannot be meant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from segedge.errors import SinkError, SourceError, UsageError
from segedge.frames.protocols import Sink, Source, SourceInfo
from segedge.video.sinks.images import FolderSink, ImageSink
from segedge.video.sinks.open import SinkOptions, open_sink
from segedge.video.sinks.video import VideoSink
from segedge.video.sources.file import VideoFile
from segedge.video.sources.images import ImageFiles
from segedge.video.sources.open import open_source
from tests.processes import ended

IMAGES = SourceInfo("folder", "images", frame_count=5)
ONE = SourceInfo("a.png", "images", frame_count=1)


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    return path


def test_kinds_of_sources(png: Path, make_clip: Callable[..., Path]) -> None:
    specs: dict[str | Path, type] = {
        png: ImageFiles,
        png.parent: ImageFiles,
        f"{png.parent}/*.png": ImageFiles,
        make_clip("x.MP4".lower()): VideoFile,
    }
    for spec, kind in specs.items():
        source: Source = open_source(spec)
        assert isinstance(source, kind)
        assert source.info.name == str(spec)
        source.close()


def test_brackets_in_a_real_name_are_no_pattern(tmp_path: Path, png: Path) -> None:
    odd = tmp_path / "street [1].png"
    odd.write_bytes(png.read_bytes())
    assert [frame.name for frame in open_source(odd).frames()] == [str(odd)]


def test_not_found_names_the_nearest(tmp_path: Path, png: Path) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / "streeet.png")
    assert str(caught.value) == f"{tmp_path}/streeet.png not found; did you mean {png}?"
    with pytest.raises(SourceError, match=r"not found$"):
        open_source(tmp_path / "quite-different")
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / "no" / "x.png")
    assert caught.value.facts["found"] == f"no folder {tmp_path}/no either"


def test_folder_without_images(tmp_path: Path, png: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SourceError, match="no images in") as caught:
        open_source(empty)
    assert caught.value.facts["found"] == "an empty folder"
    above = tmp_path / "above"
    (above / "sub").mkdir(parents=True)
    png.rename(above / "sub" / "street.png")
    with pytest.raises(SourceError, match="no images in") as caught:
        open_source(above)
    assert caught.value.facts["inside"] == "images in sub-folders: sub/street.png"
    assert caught.value.fix == f"give one of them, or all: '{above}/**/*.png'"


def test_pattern_without_match(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    with pytest.raises(SourceError, match="no image matches") as caught:
        open_source(f"{tmp_path}/*.jpg")
    assert caught.value.facts["found"] == "no match"
    make_clip("a.mp4")
    with pytest.raises(SourceError, match="no image matches") as caught:
        open_source(f"{tmp_path}/*.mp4")
    assert caught.value.facts["found"] == "1 matches, endings .mp4"


def test_unknown_kind_empty_file_and_scheme(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(SourceError, match="of no known kind") as caught:
        open_source(tmp_path / "a.docx")
    assert caught.value.facts["found"] == "ending '.docx'"
    assert ".mp4" in caught.value.facts["videos"]
    (tmp_path / "a.mp4").touch()
    with pytest.raises(SourceError, match="is empty") as caught:
        open_source(tmp_path / "a.mp4")
    assert caught.value.facts["found"] == "0 bytes"
    with pytest.raises(SourceError, match=r"no scheme 'htttp'; did you mean http://\?"):
        open_source("htttp://camera/1")


def test_nothing_at_all_is_not_this_folder(
    tmp_path: Path, png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a variable of the shell that is not set."""
    from segedge.batch.inputs import find_inputs
    from segedge.video.sources.sample import sample_images

    monkeypatch.chdir(png.parent)
    reads = (
        open_source,
        lambda spec: find_inputs([spec]),
        lambda spec: sample_images([spec], limit=3, option="--images"),
    )
    for read in reads:
        assert read(".")
        with pytest.raises(UsageError, match="a source without a name"):
            read("")


def test_kinds_of_sinks(tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    expected: dict[str, type] = {
        "a.mp4": VideoSink,
        "a.MKV": VideoSink,
        "folder": FolderSink,
        "v1.0": FolderSink,
        "new.d/": FolderSink,
    }
    for name, kind in expected.items():
        sink: Sink = open_sink(f"{tmp_path}/{name}", info=IMAGES)
        assert isinstance(sink, kind), name
        assert sink.needs == {"overlay"}
        sink.close()
    assert isinstance(open_sink(tmp_path / "a.jpg", info=ONE), ImageSink)
    for masks in ("labels", "palette"):
        assert open_sink(tmp_path / "m", info=IMAGES, masks=masks).needs == {"labels"}
        assert open_sink(tmp_path / "m.png", info=ONE, masks=masks).needs == {"labels"}
        assert open_sink(tmp_path / "m.mp4", info=ONE, masks=masks).needs == {"overlay"}
    assert not (tmp_path / "a.mp4").exists()  # begun with the first frame


def test_sinks_that_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown ending '.mp3'; did you mean '.mp4'") as caught:
        open_sink(tmp_path / "a.mp3", info=IMAGES)
    assert ".mkv" in caught.value.facts["videos"]
    with pytest.raises(UsageError, match="is one image, and folder has 5 frames") as caught:
        open_sink(tmp_path / "a.png", info=IMAGES)
    assert f"-o {tmp_path}/a/" in (caught.value.fix or "")
    with pytest.raises(UsageError, match=r"cannot write labels as '\.jpg'"):
        open_sink(tmp_path / "a.jpg", info=ONE, masks="labels")
    with pytest.raises(UsageError, match="no x264 preset 'ultrafst'; did you mean 'ultrafast'"):
        open_sink(tmp_path / "a.mp4", info=IMAGES, options=SinkOptions(preset="ultrafst"))
    with pytest.raises(UsageError, match=r"crf must be within 0..51, found 99"):
        open_sink(tmp_path / "a.mp4", info=IMAGES, options=SinkOptions(crf=99))


def test_output_is_never_the_source(tmp_path: Path, png: Path) -> None:
    with pytest.raises(UsageError, match="is the source itself"):
        open_sink(png, info=SourceInfo(str(png), "images", frame_count=1))
    with pytest.raises(UsageError, match="is the source itself"):
        open_sink(tmp_path, info=SourceInfo(f"{tmp_path}/", "images"))


def test_unwritable_places(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file/a.mp4", "file/a.png", "file/masks"):
        with pytest.raises(SinkError, match="cannot write") as caught:
            open_sink(tmp_path / name, info=ONE)
        assert caught.value.facts["found"] in ("Not a directory", "File exists")
        assert caught.value.fix == "choose another place with -o"


def test_importing_it_does_not_load_ffmpeg() -> None:
    code = (
        "import sys, segedge.video.sources.open; print('av' in sys.modules, 'cv2' in sys.modules)"
    )
    done = ended([sys.executable, "-c", code], code=0)
    assert done.stdout.split() == ["False", "False"]
