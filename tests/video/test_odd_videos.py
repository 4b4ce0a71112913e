"""Videos as people have them: pieces, mirrors, oblong pixels, odd names and streams."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from odd_clips import FPS, copied, corners, moving, sound_packets, tone, write

from segedge.errors import SourceError
from segedge.video.ffmpeg import av
from segedge.video.sources.file import VideoFile
from segedge.video.sources.open import open_source
from segedge.video.sources.parts import split_video

# -- length ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mkv", "webm", "mp4", "ts", "flv"])
def test_pieces_that_start_late_are_whole(tmp_path: Path, ending: str) -> None:
    codec = "libvpx-vp9" if ending == "webm" else "libx264"
    path = write(tmp_path / f"late.{ending}", moving(50), start=3600, codec=codec)
    video = VideoFile(path)
    assert video.info.frame_count == 50
    assert len(list(video.frames())) == 50
    assert video.failures == []
    assert len(list(video.sampled(5))) == 5


def test_a_piece_that_starts_late_and_is_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "late.mkv", moving(200), start=3600)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = VideoFile(path)
    count = len(list(video.frames()))
    assert 20 < count < 180
    assert video.failures[-1].reason.startswith(f"truncated: {count} of about 200 frames")
    assert video.failures[-1].cut


# -- how it is shown -------------------------------------------------------------------------

ONE = 1 << 16
MATRICES = {
    "hflip": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda image: image[::-1]),
    "180": ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "counter-clockwise": ((0, -1, 1, 0), lambda image: np.rot90(image)),
    "transpose": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    "other transpose": ((0, -1, -1, 0), lambda image: image.transpose(1, 0, 2)[::-1, ::-1]),
}


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices(tmp_path: Path, name: str) -> None:
    (a, b, c, d), expected = MATRICES[name]
    matrix = [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30]
    path = write(tmp_path / "a.mp4", [corners()] * 3, matrix=matrix)
    video = VideoFile(path)
    frame = next(video.frames())
    truth = expected(corners())
    assert video.info.size == truth.shape[:2] == frame.size
    assert np.abs(frame.image_hwc.astype(int) - truth).mean() < 12


@pytest.mark.parametrize(
    ("target", "codec", "turn"),
    [
        ("b.mp4", "h264", None),
        ("b.mp4", "h265", "clockwise"),
        ("b.mkv", "h265", None),
        ("b.mp4", "av1", None),
        ("b.mov", "h264", "hflip"),
    ],
)
@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(3, 4)])
def test_pixels_that_are_not_square(
    tmp_path: Path, target: str, codec: Any, turn: str | None, aspect: Fraction
) -> None:
    """A circle is one in the frames; what is made of them has the source's pixels again."""
    image = np.full((64, 110, 3), 60, np.uint8)
    radii = (24, round(24 / aspect)) if aspect > 1 else (round(24 * aspect), 24)
    cv2.ellipse(image, (55, 32), radii[::-1], 0, 0, 360, (40, 90, 230), -1)
    matrix = None
    if turn is not None:
        (a, b, c, d), _ = MATRICES[turn]
        matrix = [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30]
    ending = "mkv" if turn is None else "mp4"
    path = write(tmp_path / f"a.{ending}", [image] * 3, aspect=aspect, matrix=matrix)
    video = VideoFile(path)
    frame = next(video.frames())
    assert sorted(frame.size) == sorted((64, 160) if aspect > 1 else (86, 110))
    assert video.info.size == frame.size == next(iter(video.sampled(1))).shape[:2]
    rows, columns = np.nonzero(frame.image_hwc[:, :, 2] > 150)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 2
    copied(path, tmp_path / target, codec=codec, crf=4)
    with av.open(str(tmp_path / target)) as container:
        made = container.streams.video[0]
        upright = turn != "clockwise"
        assert (made.height, made.width) == ((64, 110) if upright else (110, 64))
        assert made.sample_aspect_ratio == (aspect if upright else 1 / aspect)
    again = VideoFile(tmp_path / target)
    assert again.info.size == video.info.size
    seen = next(again.frames()).image_hwc.astype(int)
    assert np.abs(seen - frame.image_hwc).mean() < 6
    assert np.abs(seen[4:12, 4:12].mean((0, 1)) - frame.image_hwc[4, 4]).max() < 2.5


def test_where_no_pixel_shape_is_held_pixels_are_square(tmp_path: Path) -> None:
    """Images know none; of AV1 and VP9 in Matroska PyAV sets none."""
    path = write(tmp_path / "a.mkv", moving(2), aspect=Fraction(16, 11))
    for target, codec in (("b.webm", "vp9"), ("c.mkv", "av1")):
        copied(path, tmp_path / target, codec=codec)
        again = VideoFile(tmp_path / target)
        assert (again.info.size, again.info.tags.aspect) == ((64, 140), 1)
    copied(path, tmp_path / "frames/")
    made = [cv2.imread(str(image)) for image in sorted((tmp_path / "frames").iterdir())]
    assert [image.shape[:2] for image in made] == [(64, 140)] * 2


@pytest.mark.parametrize("aspect", [Fraction(1000, 999), Fraction(1, 100)])
def test_shapes_that_mean_nothing(tmp_path: Path, aspect: Fraction) -> None:
    assert VideoFile(write(tmp_path / "a.mkv", moving(2), aspect=aspect)).info.size == (64, 96)


def test_stretched_frames_have_no_motion_vectors(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", moving(6), aspect=Fraction(16, 11))
    assert all(f.motion_vectors is None for f in VideoFile(path, motion_vectors=True).frames())


@pytest.mark.parametrize(("highest", "told"), [(4000, True), (60_000, False)])
def test_sixteen_bits_of_which_few_are_used(tmp_path: Path, highest: int, told: bool) -> None:
    """Thermal and scientific cameras: almost black where white is not the highest value."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "gray16le"
        grey = np.linspace(0, highest, 64 * 96).reshape(64, 96).astype(np.uint16)
        picture = av.VideoFrame.from_ndarray(grey, "gray16le")
        picture.pts, picture.time_base = 0, Fraction(1, FPS)
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    expected = ("a.mkv: the first frame uses 12 of its 16 bits: if white has no more, the network "
                "sees it almost black; bring it to 8 bits first",)  # fmt: skip
    assert VideoFile(path).notes == (expected if told else ())


def test_a_time_in_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`12:30.mp4` in the folder of the shell is no address of a scheme 12."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.mp4", moving(50), sound="aac").rename(tmp_path / "T12:30:00.mp4")
    video = open_source("T12:30:00.mp4")
    sink = copied(Path("T12:30:00.mp4"), Path("out:1.mp4"))
    assert [path.name for path in sink.paths] == ["out:1.mp4"]
    assert len(list(open_source("out:1.mp4").frames())) == video.info.frame_count == 50
    assert sound_packets(tmp_path / "out:1.mp4")[0]
    assert len(split_video("T12:30:00.mp4", frames=10)) > 1


# -- streams ---------------------------------------------------------------------------------


def two_streams(path: Path, *, default: int) -> Path:
    with av.open(str(path), "w") as container:
        streams = []
        for number in range(2):
            stream = container.add_stream("libx264", rate=FPS)
            stream.height, stream.width = 32 + 32 * number, 64
            stream.pix_fmt = "yuv420p"
            stream.disposition = av.stream.Disposition.default if number == default else 0
            streams.append(stream)
        for number in range(3):
            for stream in streams:
                image = np.full((stream.height, stream.width, 3), 90, np.uint8)
                picture = av.VideoFrame.from_ndarray(image, "bgr24")
                picture.pts, picture.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_stream_is_taken(tmp_path: Path, default: int) -> None:
    video = VideoFile(two_streams(tmp_path / "a.mkv", default=default))
    assert video.info.size == (32 + 32 * default, 64)
    assert [frame.size for frame in video.frames()] == [video.info.size] * 3


def test_the_cover_of_music_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=48000)
        audio.layout = "mono"
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "bgr24")
        picture.pts = 0
        container.mux(cover.encode(picture))
        for packet in tone(audio, 0.5, 0.0):
            container.mux(packet)
    with pytest.raises(SourceError, match="has no video stream") as caught:
        VideoFile(path)
    assert caught.value.facts["found"] == "audio (aac), cover (mjpeg)"
