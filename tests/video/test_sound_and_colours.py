"""What a video has beside its pixels: sound, fields, the meaning of colours, HDR."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_clips import FPS, Shown, copied, corners, moving, sound_packets, write

from segedge.video.ffmpeg import av
from segedge.video.sinks.open import open_sink
from segedge.video.sources.file import VideoFile
from segedge.video.sources.open import open_source

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
