"""Videos as people have them: pieces, mirrors, oblong pixels, streams, sound, fields, HDR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segedge.errors import SourceError
from segedge.video.ffmpeg import av
from segedge.video.sinks.open import SinkOptions, open_sink
from segedge.video.sources.file import VideoFile
from segedge.video.sources.open import open_source

FPS = 25
H264 = {"preset": "ultrafast", "crf": "8"}


def corners() -> NDArray[np.uint8]:
    """Top left red, top right green, bottom left blue, the rest grey: 64 x 96."""
    image = np.full((64, 96, 3), 128, np.uint8)
    image[:32, :48], image[:32, 48:], image[32:, :48] = (0, 0, 255), (0, 255, 0), (255, 0, 0)
    return image


def write(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    *,
    start: float = 0.0,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    sound: str = "",
    interlaced: bool = False,
    color: tuple[int, int] = (2, 2),
    codec: str = "libx264",
) -> Path:
    """A video of these images, with what is odd of it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.max_b_frames, context.gop_size = 0, 10
        context.color_primaries, context.color_trc = color
        if codec == "libx264":
            extra = {"x264-params": "tff=1"} if interlaced else {}
            context.options = {**H264, **extra}
        if aspect is not None:
            context.sample_aspect_ratio = stream.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(matrix)
        audio = container.add_stream(sound, rate=48000) if sound else None
        if audio is not None:
            audio.layout = "mono"
        for number, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, "bgr24")
            picture.pts, picture.time_base = number + round(start * FPS), Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        for packet in _tone(audio, len(images) / FPS, start) if audio is not None else ():
            container.mux(packet)
    return path


def _tone(audio: Any, seconds: float, start: float) -> Any:
    for first in range(0, round(seconds * 48000), 960):
        ticks = np.arange(first, first + 960) / 48000
        wave = np.sin((300 + 200 * ticks) * 2 * np.pi * ticks)  # no two moments alike
        samples = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
        samples.sample_rate, samples.time_base = 48000, Fraction(1, 48000)
        samples.pts = first + round(start * 48000)
        yield from audio.encode(samples)
    yield from audio.encode(None)


def moving(count: int) -> list[NDArray[np.uint8]]:
    images = []
    for number in range(count):
        image = np.full((64, 96, 3), 40, np.uint8)
        image[16:48, number % 60 : number % 60 + 20] = 220
        images.append(image)
    return images


@dataclass
class Shown:
    """A result that is its frame."""

    image: NDArray[np.uint8]

    def overlay(self) -> NDArray[np.uint8]:
        return self.image


def copied(source: Path, target: Path, *, first: int = 0, **words: Any) -> Any:
    """The sink after the frames of a video went through it."""
    video = VideoFile(source)
    sink = open_sink(target, info=video.info, options=SinkOptions(**words))
    for frame in video.frames():
        if frame.index >= first:
            sink.write(frame, Shown(frame.image_hwc))  # type: ignore[arg-type]
    sink.close()
    return sink


def sound_packets(path: Path) -> tuple[list[bytes], list[float]]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return [], []
        packets = [p for p in container.demux(audio=0) if p.pts is not None]
        return [bytes(p) for p in packets], [float(p.pts * p.time_base) for p in packets]


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
        for packet in _tone(audio, 0.5, 0.0):
            container.mux(packet)
    with pytest.raises(SourceError, match="has no video stream") as caught:
        VideoFile(path)
    assert caught.value.facts["found"] == "audio (aac), cover (mjpeg)"


# -- sound -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "sound", "target", "start"),
    [
        ("a.mp4", "aac", "b.mp4", 0),
        ("a.mkv", "libopus", "b.webm", 0),
        ("a.mkv", "libopus", "b.mp4", 100),
        ("a.mkv", "pcm_s16le", "b.mkv", 7),
        ("a.mp4", "aac", "b.mkv", 0),
    ],
)
def test_sound_is_copied(
    tmp_path: Path, source: str, sound: str, target: str, start: float
) -> None:
    path = write(tmp_path / source, moving(50), sound=sound, start=start)
    sink = copied(path, tmp_path / target)
    given, given_times = sound_packets(path)
    made, made_times = sound_packets(tmp_path / target)
    assert sink.notes == []
    assert len(made) > 40
    first = given.index(made[0])
    assert made == given[first : first + len(made)]
    shifts = np.array(given_times[first : first + len(made)]) - made_times
    assert np.abs(shifts[1:] - start).max() < 0.03
    assert made_times[-1] < 2.0
    with av.open(str(tmp_path / target)) as container:
        heard = np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)])
    assert np.abs(heard.astype(float)).max() > 0.3


def test_sound_of_a_transport_stream_plays(tmp_path: Path) -> None:
    """Its AAC has headers that MP4 does not have."""
    path = write(tmp_path / "a.ts", moving(50), sound="aac", start=50)
    copied(path, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        heard = np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)])
    assert heard.size > 80_000
    assert np.abs(heard).max() > 0.3


def test_sound_begins_with_the_first_frame_and_fits_segments(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(50), sound="aac")
    copied(path, tmp_path / "b.mp4", first=25)
    _, times = sound_packets(tmp_path / "b.mp4")
    assert 0.9 < times[-1] < 1.0
    sink = copied(path, tmp_path / "c.mp4", segment_seconds=0.8)
    lengths = [len(sound_packets(path)[0]) for path in sink.paths]
    assert len(lengths) == 3
    assert all(15 < length < 42 for length in lengths)


def test_sound_that_cannot_be_held_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(5), sound="aac")
    sink = copied(path, tmp_path / "b.webm")
    assert sound_packets(tmp_path / "b.webm")[0] == []
    assert sink.notes == [
        "b.webm: without the sound of a.mp4, since .webm holds no aac: -o out.mkv holds it"
    ]
    sink = copied(path, tmp_path / "c.webm", audio=False)
    assert sink.notes == []


def test_without_sound(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(5), sound="aac")
    copied(path, tmp_path / "b.mp4", audio=False)
    assert sound_packets(tmp_path / "b.mp4")[0] == []
    copied(write(tmp_path / "silent.mp4", moving(5)), tmp_path / "c.mp4")
    assert sound_packets(tmp_path / "c.mp4")[0] == []


def test_a_source_that_is_gone_has_no_sound(tmp_path: Path) -> None:
    """Frames that are on their way are written; the video is what was asked for."""
    path = write(tmp_path / "a.mp4", moving(5), sound="aac")
    video = VideoFile(path)
    frames = list(video.frames())
    sink = open_sink(tmp_path / "b.mp4", info=video.info)
    path.unlink()
    for frame in frames:
        sink.write(frame, Shown(frame.image_hwc))  # type: ignore[arg-type]
    sink.close()
    assert len(list(VideoFile(tmp_path / "b.mp4").frames())) == 5


# -- fields and colours ----------------------------------------------------------------------


def combed() -> list[NDArray[np.uint8]]:
    """A bar that moves 8 pixels between the two fields of each frame."""
    images = []
    for number in range(8):
        image = np.full((64, 96, 3), 40, np.uint8)
        image[0::2, 8 * number : 8 * number + 16] = 220
        image[1::2, 8 * number + 8 : 8 * number + 24] = 220
        images.append(image)
    return images


def combs(image: NDArray[np.uint8]) -> float:
    """How much lines differ from the mean of their neighbours."""
    grey = image[:, :, 1].astype(float)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


def test_interlaced_is_told_and_mended_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", combed(), interlaced=True)
    video = open_source(path)
    assert "a.mp4: interlaced" in video.notes[0]  # type: ignore[attr-defined]
    plain = [frame.image_hwc for frame in video.frames()]
    mended = VideoFile(path, deinterlace=True)
    assert mended.notes == ()
    frames = list(mended.frames())
    assert len(frames) == len(plain) == 8
    times = [frame.pts_seconds for frame in frames]
    assert times == pytest.approx([number / FPS for number in range(8)])
    assert combs(frames[4].image_hwc) < combs(plain[4]) / 3
    assert VideoFile(write(tmp_path / "b.mp4", combed())).notes == ()


def write_hdr(path: Path, transfer: int) -> Path:
    """`corners` as cameras record HDR: H.265 of 10 bits, with the matrix of BT.2020."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 9, transfer, 9
        context.color_range = 1
        context.options = {"crf": "2", "x265-params": "log-level=error"}
        for number in range(3):
            picture = av.VideoFrame.from_ndarray(corners(), "bgr24").reformat(
                format="yuv420p10le", dst_colorspace=9, dst_color_range=1
            )
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize(
    ("target", "codec"), [("b.mp4", "h264"), ("b.mp4", "h265"), ("b.mkv", "av1")]
)
def test_hdr_is_named_and_stays_named(
    tmp_path: Path, transfer: int, name: str, target: str, codec: Any
) -> None:
    path = write_hdr(tmp_path / "a.mp4", transfer)
    video = VideoFile(path)
    assert f"HDR ({name})" in video.notes[0]
    assert video.info.tags.hdr == name
    given = next(video.frames()).image_hwc
    assert np.abs(given.astype(int) - corners()).mean() < 6
    copied(path, tmp_path / target, codec=codec, crf=4)
    with av.open(str(tmp_path / target)) as container:
        picture = next(container.decode(video=0))
        assert (int(picture.color_primaries), int(picture.color_trc)) == (9, transfer)
        assert int(picture.colorspace) in (5, 6)
    again = VideoFile(tmp_path / target)
    assert again.info.tags.hdr == name
    assert np.abs(next(again.frames()).image_hwc.astype(int) - given).mean() < 4


def test_ordinary_colours_are_not_told(tmp_path: Path) -> None:
    video = VideoFile(write(tmp_path / "c.mp4", moving(3), color=(1, 1)))
    assert (video.notes, video.info.tags.hdr) == ((), "")


@pytest.mark.parametrize(
    ("target", "codec"),
    [("b.mp4", "h264"), ("b.mp4", "h265"), ("b.mkv", "av1"), ("b.webm", "vp9")],
)
def test_colour_tags_are_those_of_the_samples(tmp_path: Path, target: str, codec: Any) -> None:
    """What a player makes of the tags is the picture that was given."""
    path = write(tmp_path / "a.mp4", [corners()] * 3, color=(1, 1))
    copied(path, tmp_path / target, codec=codec, crf=4)
    with av.open(str(tmp_path / target)) as container:
        picture = next(container.decode(video=0))
        assert int(picture.colorspace) in (5, 6)
        assert int(picture.color_range) == 1
        assert (int(picture.color_primaries), int(picture.color_trc)) == (1, 1) or codec == "vp9"
    made = next(VideoFile(tmp_path / target).frames()).image_hwc
    given = next(VideoFile(path).frames()).image_hwc
    assert np.abs(made.astype(int) - given).mean() < 4
