"""Encoders: what was asked for is what the file holds, and what does not work is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from video_clips import feed, gradient_images, noise_images

from segedge.errors import UsageError
from segedge.video.encode import encoders
from segedge.video.encode.encoders import choose_encoder, why_not
from segedge.video.encode.options import CODECS, ENCODERS, EncodeOptions, is_hardware
from segedge.video.encode.settings import pixel_format
from segedge.video.formats import Codec
from segedge.video.sinks.video import VideoSink
from segedge.video.sources.file import VideoFile

Images = list[NDArray[np.uint8]]
FFMPEG_NAME = {"h264": "h264", "h265": "hevc", "av1": {"av1", "libdav1d"}, "vp9": "vp9"}


def record(path: Path, options: EncodeOptions, images: Images | None = None) -> VideoSink:
    sink = VideoSink(path, fps=25, options=options)
    feed(sink, images or gradient_images(30, 96, 128))
    sink.close()
    return sink


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_reads_back(tmp_path: Path, codec: Codec, suffix: str) -> None:
    sink = record(tmp_path / f"a{suffix}", EncodeOptions(codec=codec, crf=10))
    frames = list(VideoFile(sink.paths[0]).frames())
    assert [f.pts_seconds for f in frames] == pytest.approx([k / 25 for k in range(30)], abs=1e-3)
    for frame, image in zip(frames, gradient_images(30, 96, 128), strict=True):
        assert cv2.PSNR(frame.image_hwc, image) > 30
    with av.open(str(sink.paths[0])) as container:
        context = container.streams.video[0].codec_context
        assert context.codec.canonical_name in FFMPEG_NAME[codec]
        assert (context.colorspace, context.color_range) == (6, 1)
        if codec == "h265" and suffix != ".mkv":
            assert context.codec_tag == "hvc1"


@pytest.mark.parametrize("codec", CODECS)
def test_key_frames_come_as_often_as_asked(tmp_path: Path, codec: Codec) -> None:
    sink = record(tmp_path / "a.mkv", EncodeOptions(codec=codec, key_seconds=0.4))
    with av.open(str(sink.paths[0])) as container:
        keys = [n for n, p in enumerate(container.demux(video=0)) if p.size and p.is_keyframe]
    assert keys == [0, 10, 20]


@pytest.mark.parametrize("codec", CODECS)
def test_lower_quality_is_smaller(tmp_path: Path, codec: Codec) -> None:
    sizes = []
    for crf in (5, 45):
        options = EncodeOptions(codec=codec, crf=crf)
        sink = record(tmp_path / f"{crf}.mp4", options, noise_images(5, 96, 128))
        sizes.append(sink.paths[0].stat().st_size)
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize("preset", ["ultrafast", "veryfast", "medium"])
def test_no_preset_shifts_the_times(tmp_path: Path, preset: str) -> None:
    """B-frames in fragmented MP4 would, by two frames."""
    sink = record(tmp_path / "a.mp4", EncodeOptions(preset=preset))
    times = [frame.pts_seconds for frame in VideoFile(sink.paths[0]).frames()]
    assert times == pytest.approx([k / 25 for k in range(30)], abs=1e-3)


def test_an_encoder_that_knows_nv12_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick Sync does not: here x264 is told to take it."""
    assert pixel_format(["nv12", "qsv"]) == "nv12"
    assert pixel_format(["yuv420p", "nv12"]) == pixel_format([]) == "yuv420p"
    monkeypatch.setattr("segedge.video.encode.settings.pixel_format", lambda known: "nv12")
    images = [np.full((96, 128, 3), (200, 60, 20), np.uint8)] * 3
    sink = record(tmp_path / "a.mp4", EncodeOptions(crf=5), images)
    frames = list(VideoFile(sink.paths[0]).frames())
    assert cv2.PSNR(frames[1].image_hwc, images[1]) > 35


@pytest.mark.parametrize(("suffix", "codec"), [("mov", "av1"), ("m4v", "av1"), ("m4v", "h265")])
def test_what_a_container_does_not_hold(tmp_path: Path, suffix: str, codec: Codec) -> None:
    with pytest.raises(UsageError, match=f"a.{suffix}: .{suffix} holds no {codec}"):
        VideoSink(tmp_path / f"a.{suffix}", fps=25, options=EncodeOptions(codec=codec))


@pytest.mark.parametrize("codec", CODECS)
def test_an_encoder_that_does_not_work_is_replaced_and_told(tmp_path: Path, codec: Codec) -> None:
    """Whichever hardware encoder of the wheel fails on this machine."""
    size = (96, 128)
    asked = next((n for n in ENCODERS[codec] if is_hardware(n) and why_not(n, size)), None)
    if asked is None:
        pytest.skip("every hardware encoder works here")
    sink = record(tmp_path / "a.mp4", EncodeOptions(codec=codec, encoder=asked))
    assert len(list(VideoFile(sink.paths[0]).frames())) == 30
    assert len(sink.notes) == 1
    assert sink.notes[0].startswith(f"{asked} does not work here (")
    assert sink.notes[0].endswith(" encodes")


def test_auto_takes_hardware_that_works() -> None:
    def no_nvenc(name: str, size: tuple[int, int]) -> str | None:
        return "no GPU" if name.endswith("_nvenc") else None

    chosen = choose_encoder(EncodeOptions(), (720, 1280), probe=lambda name, size: None)
    assert (chosen.encoder, chosen.note) == ("h264_nvenc", None)
    assert choose_encoder(EncodeOptions(), (720, 1280), probe=no_nvenc).encoder == "h264_qsv"
    asked = EncodeOptions(codec="h265", encoder="hevc_nvenc")
    chosen = choose_encoder(asked, (720, 1280), probe=no_nvenc)
    assert chosen.encoder == "libx265"
    assert chosen.note == "hevc_nvenc does not work here (no GPU): libx265 encodes"


def test_a_codec_that_the_wheel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_av1(name: str, size: tuple[int, int]) -> str | None:
        return "not in this build of FFmpeg" if "av1" in name else None

    with pytest.raises(UsageError, match="no encoder for av1 works here") as caught:
        choose_encoder(EncodeOptions(codec="av1"), (720, 1280), probe=no_av1)
    assert "libsvtav1: not in this build of FFmpeg" in caught.value.facts["found"]
    assert caught.value.fix == "--codec h264 or --codec h265 or --codec vp9"


def test_a_probe_is_made_once() -> None:
    why_not("h264_nvenc", (96, 128))
    before = encoders.why_not.cache_info().misses
    why_not("h264_nvenc", (96, 128))
    assert encoders.why_not.cache_info().misses == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "h26"}, "no codec 'h26'; did you mean"),
        ({"encoder": "h264_nvec"}, "no h264 encoder 'h264_nvec'; did you mean 'h264_nvenc'?"),
        ({"encoder": "libx265"}, "libx265 makes h265, not h264"),
        ({"crf": 60}, "crf must be within 0..51, found 60"),
        ({"codec": "av1", "crf": 64}, "crf must be within 0..63, found 64"),
        ({"preset": "ultrafst"}, "no x264 preset 'ultrafst'; did you mean 'ultrafast'?"),
        ({"encoder": "h264_nvenc", "preset": "p9"}, "no h264_nvenc preset 'p9'"),
        ({"codec": "av1", "preset": "slow"}, "no libsvtav1 preset 'slow'"),
        ({"key_seconds": 0.0}, "positive distance"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        EncodeOptions(**options)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize("codec", CODECS)
def test_no_thread_stays_real_time(tmp_path: Path, codec: Codec) -> None:
    """As root SVT-AV1 would: its threads, and ours that opened it, before all others for good."""
    sink = VideoSink(tmp_path / "a.mkv", fps=10.0, options=EncodeOptions(codec=codec))
    feed(sink, gradient_images(3), [0.0, 0.1, 0.2])
    threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
    sink.close()
