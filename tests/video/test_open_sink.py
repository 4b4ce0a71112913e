"""Every spelling of -o."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segedge.errors import SinkError, UsageError
from segedge.frames.protocols import Sink, SourceInfo
from segedge.video.encode.options import ENCODERS
from segedge.video.push.sink import PushSink
from segedge.video.sinks.images import FolderSink, ImageSink
from segedge.video.sinks.json_lines import JsonLinesSink
from segedge.video.sinks.open import SinkOptions, open_sink
from segedge.video.sinks.segments import SegmentedSink
from segedge.video.sinks.video import VideoSink

PAGE = Path(__file__).parents[2] / "docs/sinks.md"
CLIP = SourceInfo("drive.mp4", "video", (48, 64), 25.0, 100)
ONE = SourceInfo("a.jpg", "images", frame_count=1)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("a.mp4", VideoSink),
        ("A.MKV", VideoSink),
        ("masks", FolderSink),
        ("masks.mp4/", FolderSink),
        ("window/", FolderSink),
        ("facts.jsonl", JsonLinesSink),
        ("facts.ndjson", JsonLinesSink),
        ("-", JsonLinesSink),
        ("rtsp://host/a", PushSink),
        ("udp://host:5000", PushSink),
    ],
)
def test_spellings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, kind: type[Sink]
) -> None:
    monkeypatch.chdir(tmp_path)
    sink = open_sink(target, info=CLIP)
    assert type(sink) is kind
    sink.close()


def spellings_of_the_page() -> list[str]:
    """What stands in the first column of the first table of docs/sinks.md."""
    table = PAGE.read_text("utf-8").split("|---|---|\n")[1].split("\n\n")[0]
    cells = (row.split("|")[1] for row in table.splitlines())
    return [text for cell in cells for text in re.findall("`([^`]+)`", cell) if text[0] != "-"]


@pytest.mark.parametrize("target", spellings_of_the_page())
def test_every_spelling_of_the_page_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segedge.video.sinks.window.no_window_because", lambda: None)
    sink = open_sink(target, info=ONE)
    assert sink.needs, f"{target} would take nothing of a frame"
    sink.close()


def test_the_encoders_of_the_page() -> None:
    text = PAGE.read_text("utf-8")
    for codec, names in ENCODERS.items():
        assert f"| `{codec}` | {' '.join(f'`{name}`' for name in names)} |" in text


def test_one_image(tmp_path: Path) -> None:
    assert isinstance(open_sink(tmp_path / "a.png", info=ONE), ImageSink)
    with pytest.raises(UsageError, match=r"is one image, and drive\.mp4 has 100 frames"):
        open_sink(tmp_path / "a.png", info=CLIP)


@pytest.mark.parametrize("target", ["window", "window:front"])
def test_window(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="cannot open a window"):
        open_sink(target, info=CLIP)


def test_segments(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "a.mp4", info=CLIP, options=SinkOptions(segment_seconds=600))
    assert isinstance(sink, SegmentedSink)
    assert (sink.fps, sink.segment_seconds) == (25.0, 600)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SinkOptions(codec="h266"), "no codec 'h266'"),  # type: ignore[arg-type]
        (SinkOptions(encoder="nvenc"), "no h264 encoder 'nvenc'; did you mean 'h264_nvenc'?"),
        (SinkOptions(preset="fst"), "no x264 preset 'fst'; did you mean 'fast'?"),
        (SinkOptions(crf=99), "crf must be within 0..51"),
        (SinkOptions(fps=0), "positive rate"),
    ],
)
def test_bad_options_reach_videos_only(tmp_path: Path, options: SinkOptions, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_sink(tmp_path / "a.mp4", info=CLIP, options=options)
    assert message in str(caught.value)
    open_sink(tmp_path / "masks/", info=CLIP, options=options)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown ending '\.jsnl'; did you mean '\.jsonl'"):
        open_sink(tmp_path / "a.jsnl", info=CLIP)
    with pytest.raises(UsageError, match="no address kind 'rstp'; did you mean 'rtsp'"):
        open_sink("rstp://host/a", info=CLIP)
    with pytest.raises(UsageError, match="an output without a name"):
        open_sink("", info=CLIP)


@pytest.mark.parametrize("name", ["a.mp4", "a.jsonl"])
def test_never_the_source_itself(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="is the source itself"):
        open_sink(path, info=SourceInfo(str(path), "video"))
    assert path.read_bytes() == b"precious"


def test_opening_makes_no_video(tmp_path: Path) -> None:
    open_sink(tmp_path / "a.mp4", info=CLIP).close()
    assert list(tmp_path.iterdir()) == []
