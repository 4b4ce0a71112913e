"""Videos that were spoilt on the way: what is wrong is told with its frame, once."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segedge.video.ffmpeg import av
from segedge.video.sources.damage import Damage
from segedge.video.sources.file import VideoFile
from segedge.video.sources.parts import split_video

FPS = 25
COUNT = 60


def write(path: Path, codec: str, images: list[NDArray[np.uint8]], **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 30
        stream.codec_context.options = options
        for number, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, "bgr24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def panned() -> list[NDArray[np.uint8]]:
    """Noise that moves: every byte of a packet counts."""
    wide = np.random.default_rng(0).integers(0, 255, (96, 160 + 4 * COUNT, 3), np.uint8)
    return [np.ascontiguousarray(wide[:, 4 * n : 4 * n + 160]) for n in range(COUNT)]


def spoil(path: Path, count: int, *, first: int = 0) -> None:
    """Turn over some bytes in so many packets that are no key frames."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size and not p.is_keyframe]
        places = [(p.pos, p.size) for p in packets[first:]]
    data, chance = bytearray(path.read_bytes()), random.Random(1)
    for place, size in chance.sample(places, count):
        for _ in range(3):
            data[place + size // 3 + chance.randrange(size // 2)] ^= 0xFF
    path.write_bytes(data)


H264 = {"preset": "ultrafast", "crf": "30"}
H265 = {"preset": "ultrafast", "crf": "30", "x265-params": "log-level=error"}


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [("mp4", "libx264", H264), ("avi", "mpeg4", {}), ("ts", "mpeg2video", {})],
)
def test_pictures_that_ffmpeg_mends_are_told(
    tmp_path: Path, panned: list[NDArray[np.uint8]], ending: str, codec: str, options: Any
) -> None:
    """It makes them up from others without an error: only a mark on the picture says so."""
    path = write(tmp_path / f"a.{ending}", codec, panned, **options)
    video = VideoFile(path)
    assert len(list(video.frames())) == COUNT
    assert video.failures == []
    spoil(path, 8)
    video = VideoFile(path)
    assert len(list(video.frames())) > COUNT - 4
    (failure,) = video.failures
    assert failure.reason.startswith("damaged: ")
    assert "parts of which FFmpeg made up from others and " in failure.reason
    assert failure.reason.count("FFmpeg") == 1
    assert not failure.cut


def test_each_part_tells_its_own_damage(tmp_path: Path, panned: list[NDArray[np.uint8]]) -> None:
    path = write(tmp_path / "a.mp4", "libx264", panned, **H264)
    spoil(path, 6, first=30)
    parts = split_video(path, frames=10)
    assert len(parts) == 2
    videos = [VideoFile(path, part=part) for part in parts]
    for video in videos:
        list(video.frames())
    assert videos[0].failures == []
    frame = int(videos[1].failures[0].reason.partition("frame ")[2].split(",")[0].split(";")[0])
    assert frame >= 30


def test_pictures_that_ffmpeg_leaves_out_are_told(
    tmp_path: Path, panned: list[NDArray[np.uint8]]
) -> None:
    """Of H.265: those that hang on a damaged one, without an error or a mark."""
    path = write(tmp_path / "a.mp4", "libx265", panned, **H265)
    video = VideoFile(path)
    assert len(list(video.frames())) == COUNT
    assert video.failures == []
    spoil(path, 8)
    video = VideoFile(path)
    count = len(list(video.frames()))
    assert count < COUNT
    failure = video.failures[0]
    assert failure.reason.startswith("damaged: ")
    assert "that FFmpeg left out" in failure.reason


def test_what_never_comes_is_counted(tmp_path: Path, panned: list[NDArray[np.uint8]]) -> None:
    """Up to the end, too, of a container that does not count its frames."""
    path = write(tmp_path / "a.mkv", "libx265", panned, **H265)
    with av.open(str(path)) as container:
        damage = Damage(container.streams.video[0])
        pictures = list(damage.pictures(container.demux(video=0)))
    for index, picture in enumerate([*pictures[:7], *pictures[8:41]]):
        damage.look(picture, index)
    damage.end(40)
    assert damage.problems == [
        "a picture before frame 7 that FFmpeg left out",
        f"{COUNT - 41} pictures before frame 40 that FFmpeg left out",
    ]


def test_h265_in_open_groups_is_whole(tmp_path: Path, panned: list[NDArray[np.uint8]]) -> None:
    """Pictures that lead a key frame are in it, in every part too."""
    options = {**H265, "preset": "fast", "x265-params": "log-level=error:open-gop=1:keyint=20"}
    path = write(tmp_path / "a.mkv", "libx265", panned, **options)
    video = VideoFile(path)
    assert len(list(video.frames())) == COUNT
    assert video.failures == []
    for part in split_video(path, frames=10):
        video = VideoFile(path, part=part)
        assert len(list(video.frames())) == part.frames
        assert video.failures == []


def test_ffmpeg_speaks_once_and_says_where(tmp_path: Path) -> None:
    """Packets that are no pictures: the frame is named, the rest is counted."""
    path = tmp_path / "a.mkv"
    images = [np.full((64, 96, 3), 40 + 8 * number, np.uint8) for number in range(20)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuvj420p"
        for number, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, "bgr24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            for packet in stream.encode(picture):
                if 8 <= number < 11:
                    broken = av.Packet(b"\xff\xd8 no picture")
                    broken.stream, broken.time_base = stream, packet.time_base
                    broken.pts, broken.dts = packet.pts, packet.dts
                    container.mux(broken)
                else:
                    container.mux(packet)
        container.mux(stream.encode(None))
    video = VideoFile(path)
    assert len(list(video.frames())) == 17
    (failure,) = video.failures
    assert failure.reason.count("FFmpeg says") == 1
    assert "at frame 8; FFmpeg says: Invalid data" in failure.reason
    assert "and 2 more; 17 frames decoded" in failure.reason
