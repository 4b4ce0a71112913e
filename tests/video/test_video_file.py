"""Video files in, frames out: complete, in order, in the right colours, and honest about damage."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_clips import gradient_images, noise_images, write_clip

from segedge.errors import SourceError
from segedge.video.sources.file import VideoFile

MakeClip = Callable[..., Path]


def cut(path: Path, share: float) -> Path:
    """The first part of a file, under another name."""
    data = path.read_bytes()
    target = path.with_name(f"cut{path.suffix}")
    target.write_bytes(data[: int(len(data) * share)])
    return target


def test_real_clip_is_complete(real_clip: Path) -> None:
    source = VideoFile(real_clip)
    assert source.info.size == (432, 768)
    assert source.info.fps == 12.5
    assert source.info.frame_count == 377
    frames = list(source.frames())
    assert [frame.index for frame in frames] == list(range(377))
    assert frames[0].pts_seconds == 0.0
    assert np.diff([frame.pts_seconds for frame in frames]) == pytest.approx(0.08, abs=1e-4)
    assert all(frame.times.milliseconds["decode"] > 0 for frame in frames)
    assert source.failures == []


def test_real_clip_looks_as_opencv_decodes_it(real_clip: Path) -> None:
    import cv2

    capture = cv2.VideoCapture(str(real_clip))
    frame = next(VideoFile(real_clip).frames())
    expected = capture.read()[1]
    assert np.abs(frame.image_hwc.astype(int) - expected).mean() < 1.5


def test_frames_are_in_order_and_own_their_memory(make_clip: MakeClip) -> None:
    frames = list(VideoFile(make_clip(count=30)).frames())
    means = [frame.image_hwc.mean() for frame in frames]
    assert means == sorted(means)
    frames[0].image_hwc[:] = 255
    assert frames[1].image_hwc.mean() < 200
    assert all(frame.image_hwc.flags.c_contiguous for frame in frames)
    assert all(frame.image_hwc.flags.writeable for frame in frames)


def test_it_can_be_read_twice(make_clip: MakeClip) -> None:
    source = VideoFile(make_clip(count=12))
    assert sum(1 for _ in source.frames()) == sum(1 for _ in source.frames()) == 12


@pytest.mark.parametrize(
    "bgr", [(0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 64, 128), (0, 0, 0), (255, 255, 255)]
)
def test_colours_are_bgr_in_full_range(make_clip: MakeClip, bgr: tuple[int, int, int]) -> None:
    image = np.full((48, 64, 3), bgr, np.uint8)
    frame = next(VideoFile(make_clip(images=[image] * 3)).frames())
    assert np.abs(frame.image_hwc.astype(int) - bgr).max() <= 6  # FFmpeg's scaler rounds down


@pytest.mark.parametrize(("height", "width"), [(36, 50), (34, 2), (2, 66)])
def test_widths_with_padded_rows(make_clip: MakeClip, height: int, width: int) -> None:
    images = gradient_images(3, height, width)
    frame = next(VideoFile(make_clip(images=images)).frames())
    assert frame.image_hwc.shape == (height, width, 3)
    assert frame.image_hwc.flags.c_contiguous
    assert np.abs(frame.image_hwc.astype(int) - images[0]).mean() < 6


def test_variable_rate_keeps_its_times(make_clip: MakeClip) -> None:
    times = [0.0, 0.04, 0.12, 0.5, 0.51]
    source = VideoFile(make_clip(images=gradient_images(5), times=times))
    assert [f.pts_seconds for f in source.frames()] == pytest.approx(times, abs=1e-4)


def test_ntsc_rate(make_clip: MakeClip) -> None:
    source = VideoFile(make_clip(fps=Fraction(24000, 1001)))
    assert source.info.fps == pytest.approx(24000 / 1001, rel=1e-9)


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".avi", ".mov", ".h264"])
def test_other_containers(make_clip: MakeClip, suffix: str) -> None:
    source = VideoFile(make_clip(f"clip{suffix}", count=20))
    frames = list(source.frames())
    assert len(frames) == 20
    assert source.failures == []
    times = [frame.pts_seconds for frame in frames]
    assert np.diff(times) == pytest.approx(0.04, abs=2e-3)


def test_unicode_name(make_clip: MakeClip) -> None:
    path = make_clip("straße 街道 é.mp4")
    assert VideoFile(path).info.name == str(path)
    assert sum(1 for _ in VideoFile(path).frames()) == 30


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_respected(make_clip: MakeClip, degrees: int) -> None:
    """A phone's clip: the header says how far to turn it clockwise."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = (0, 0, 255)  # red at the upper left
    path = make_clip(images=[image] * 3)
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = [cos * 65536, sin * 65536, 0, -sin * 65536, cos * 65536, 0, 0, 0, 1 << 30]
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version, flags, times ... up to the matrix
    data[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    source = VideoFile(path)
    frame = next(source.frames())
    assert source.info.size == frame.size == ((64, 48) if degrees != 180 else (48, 64))
    expected = np.rot90(image, -degrees // 90)
    assert np.abs(frame.image_hwc.astype(int) - expected).mean() < 6


def test_size_change_in_mid_stream(tmp_path: Path) -> None:
    """Joined transport streams are two videos in one file: refused at the seam, with numbers."""
    first = write_clip(tmp_path / "a.ts", gradient_images(6, 48, 64))
    second = write_clip(tmp_path / "b.ts", gradient_images(6, 96, 80))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    sizes: list[tuple[int, int]] = []
    with pytest.raises(SourceError, match="changes size in mid-stream") as caught:
        sizes.extend(frame.size for frame in VideoFile(joined).frames())
    assert sizes == [(48, 64)] * 6
    assert caught.value.facts["found"] == "frame 6 is 80x96"
    assert "64x48" in caught.value.facts["expected"]
    assert "scale=64:48" in str(caught.value.fix)


def test_truncated_mp4_delivers_what_decodes_and_says_the_rest(make_clip: MakeClip) -> None:
    path = make_clip(images=noise_images(60), container_options={"movflags": "+faststart"})
    source = VideoFile(cut(path, 0.5))
    count = sum(1 for _ in source.frames())
    assert 20 <= count <= 40
    (failure,) = [f for f in source.failures if "truncated" in f.reason]
    assert f"truncated: {count} of 60 frames" in failure.reason
    assert failure.cut
    assert "of 2.4 s" in failure.reason


def test_truncated_mkv(make_clip: MakeClip) -> None:
    source = VideoFile(cut(make_clip("clip.mkv", images=noise_images(100)), 0.4))
    count = sum(1 for _ in source.frames())
    assert 20 <= count <= 60
    assert f"truncated: {count} of about 100 frames" in source.failures[-1].reason


def test_real_clip_cut_in_half(real_clip: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.mp4"
    half.write_bytes(real_clip.read_bytes()[: real_clip.stat().st_size // 2])
    source = VideoFile(half)
    count = sum(1 for _ in source.frames())
    assert f"truncated: {count} of 377 frames" in source.failures[-1].reason


def test_damage_in_the_middle_is_noted_and_skipped(make_clip: MakeClip) -> None:
    path = make_clip("clip.ts", images=noise_images(80))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(data)
    source = VideoFile(path)
    count = sum(1 for _ in source.frames())
    assert 40 <= count <= 80


def test_closing_ends_an_iteration(make_clip: MakeClip) -> None:
    source = VideoFile(make_clip(count=30))
    frames = source.frames()
    next(frames)
    source.close()
    assert list(frames) == []
    assert source.failures == []  # ended by us, not truncated


def test_mp4_without_index(make_clip: MakeClip) -> None:
    path = cut(make_clip(images=noise_images(60)), 0.5)
    with pytest.raises(SourceError, match="not a readable video") as caught:
        VideoFile(path)
    assert "no moov atom" in str(caught.value)
    assert f"{path.stat().st_size} bytes" in caught.value.facts["found"]
    assert caught.value.fix is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>\n<html>404</html>", "a text file (32 bytes): '<!DOCTYPE html>'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (bytes(range(256)) * 20, "5120 bytes; FFmpeg says: Invalid data"),
    ],
)
def test_files_that_are_no_video(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        VideoFile(path)
    assert words in str(caught.value)


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for index in range(20):
            samples = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, index * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(SourceError, match="has no video stream") as caught:
        VideoFile(path)
    assert caught.value.facts["found"] == "audio (aac)"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot open video") as caught:
        VideoFile(tmp_path / "nothing.mp4")
    assert caught.value.facts["found"] == "No such file or directory"


def test_header_without_a_single_frame(make_clip: MakeClip) -> None:
    path = make_clip(images=noise_images(10), container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(SourceError, match=r"no frame of .* can be decoded") as caught:
        VideoFile(path)
    assert caught.value.facts["found"] == "a h264 stream of 10 frames"
