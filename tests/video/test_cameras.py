"""Cameras without one: what FFmpeg is asked for, what is said when it refuses; GStreamer, too."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest

from segedge.errors import SourceError, UsageError
from segedge.video.live import camera as camera_module
from segedge.video.live import gstreamer
from segedge.video.live.camera import cameras_here, device_path
from segedge.video.options import SourceOptions
from segedge.video.sources.open import open_source


def test_spelling() -> None:
    for spec in ("3", "camera:3", "/dev/video3", "camera:/dev/video3"):
        assert device_path(spec) == Path("/dev/video3")
    by_id = "camera:/dev/v4l/by-id/usb-Cam-index0"
    assert device_path(by_id) == Path("/dev/v4l/by-id/usb-Cam-index0")
    with pytest.raises(UsageError, match="no camera is spelled 'camera:front'"):
        open_source("camera:front")


def test_a_file_whose_name_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").mkdir()
    with pytest.raises(SourceError, match="no images in 0"):
        open_source("0")


def test_no_such_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "cameras_here", lambda: ["/dev/video0 (HD Webcam)"])
    with pytest.raises(SourceError, match=r"^no camera /dev/video97") as caught:
        open_source("97")
    assert caught.value.facts["found"] == "/dev/video0 (HD Webcam)"
    monkeypatch.setattr(camera_module, "cameras_here", list)
    with pytest.raises(SourceError) as caught:
        open_source("camera:97")
    assert caught.value.facts["found"] == "no camera at all"


def test_cameras_here(tmp_path: Path) -> None:
    for name in ("video10", "video2"):
        (tmp_path / name).mkdir()
    (tmp_path / "video2" / "name").write_text("HD Webcam\n")
    assert cameras_here(tmp_path) == ["/dev/video2 (HD Webcam)", "/dev/video10"]
    assert cameras_here(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("code", "options", "headline", "fix"),
    [
        (errno.EBUSY, SourceOptions(), "camera /dev/video0 is busy", "fuser -v /dev/video0"),
        (errno.EACCES, SourceOptions(), "camera /dev/video0 may not be read", "usermod -aG video"),
        (errno.EINVAL, SourceOptions(), "/dev/video0 is no camera", "--list-formats-ext"),
        (errno.ENODEV, SourceOptions(), "/dev/video0 gives no video", "plug it in"),
        (
            errno.EINVAL,
            SourceOptions(pixel_format="nv12"),
            "camera /dev/video0 has no such mode",
            "--list-formats-ext",
        ),
    ],
)
def test_refusals(
    monkeypatch: pytest.MonkeyPatch, code: int, options: SourceOptions, headline: str, fix: str
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(SourceError) as caught:
        open_source("0", options=options)
    assert caught.value.headline == headline
    assert fix in (caught.value.fix or "")


@pytest.fixture
def webcam(make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A clip of 64x48 in the place of the device; what it was asked for."""
    clip, asked = make_clip(), {}
    really_open = av.open

    def open_clip(path: str, **named: Any) -> Any:
        asked.update(named, path=path)
        return really_open(str(clip))

    monkeypatch.setattr(av, "open", open_clip)
    return asked


def test_a_mode(webcam: dict[str, Any]) -> None:
    options = SourceOptions(size=(48, 64), fps=30, pixel_format="mjpeg", reconnect=False)
    source = open_source("/dev/video0", options=options)
    assert webcam["path"] == "/dev/video0"
    assert webcam["format"] == "v4l2"
    assert webcam["options"] == {
        "video_size": "64x48",
        "framerate": "30",
        "input_format": "mjpeg",
    }
    source.close()
    with pytest.raises(SourceError, match="camera /dev/video0 has no mode 128x96") as caught:
        open_source("0", options=SourceOptions(size=(96, 128)))
    assert caught.value.facts["found"] == "its nearest is 64x48"
    assert "--size 64x48" in (caught.value.fix or "")


def test_frames_carry_the_time_of_capture() -> None:
    now_ns = 5_000_000_000
    microsecond = Fraction(1, 1_000_000)
    fresh = SimpleNamespace(pts=4_980_000, time_base=microsecond)
    of_another_clock = SimpleNamespace(pts=20, time_base=microsecond)
    assert camera_module._captured_ns(fresh, now_ns) == 4_980_000_000
    assert camera_module._captured_ns(of_another_clock, now_ns) == now_ns


def test_options_that_a_source_does_not_have(tmp_path: Path) -> None:
    for spec in (str(tmp_path), "rtsp://user:hush@127.0.0.1/x", "gst:videotestsrc ! appsink"):
        with pytest.raises(UsageError, match="cannot be asked for a size") as caught:
            open_source(spec, options=SourceOptions(size=(48, 64)))
        assert "hush" not in str(caught.value)
    with pytest.raises(UsageError, match="cannot be asked for a rate"):
        open_source(str(tmp_path), options=SourceOptions(fps=5))
    with pytest.raises(UsageError, match="cannot be asked for a pixel format"):
        open_source("test:720p30", options=SourceOptions(pixel_format="mjpeg"))


@pytest.mark.skipif(gstreamer.has_gstreamer(), reason="this OpenCV has GStreamer")
def test_opencv_without_gstreamer() -> None:
    with pytest.raises(SourceError, match="this OpenCV has no GStreamer") as caught:
        open_source("gst:videotestsrc ! appsink")
    assert "python3-opencv" in (caught.value.fix or "")


class FakeCapture:
    """OpenCV's, with three grey frames."""

    def __init__(self, opened: bool = True) -> None:
        self._left, self._opened = 3, opened

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._opened

    def get(self, key: int) -> float:
        return 30.0 if key == cv2.CAP_PROP_FPS else 0.0

    def grab(self) -> bool:
        self._left -= 1
        return self._left >= 0

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.full((8, 10), 7, np.uint8)

    def release(self) -> None: ...


def test_a_gstreamer_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def capture(*arguments: Any) -> FakeCapture:
        asked.extend(arguments)
        return FakeCapture()

    monkeypatch.setattr(gstreamer, "has_gstreamer", lambda: True)
    monkeypatch.setattr(cv2, "VideoCapture", capture)
    spec = "gst:rtspsrc location=rtsp://u:hush@h/x ! appsink"
    source = open_source(spec, options=SourceOptions(reconnect=False))
    assert asked == [spec.removeprefix("gst:"), cv2.CAP_GSTREAMER]
    assert source.info.name == "gst:rtspsrc location=rtsp://***@h/x ! appsink"
    assert source.info.live
    assert source.info.fps == 30
    assert source.info.size == (8, 10)
    frames = list(source.frames())
    assert frames
    assert all(frame.image_hwc.shape == (8, 10, 3) for frame in frames)


def test_a_gstreamer_pipeline_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gstreamer, "has_gstreamer", lambda: True)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *arguments: FakeCapture(opened=False))
    with pytest.raises(SourceError, match="does not start") as caught:
        open_source("gst:nosuchsrc ! appsink")
    assert caught.value.fix == "try it alone: gst-launch-1.0 nosuchsrc ! fakesink"
    with pytest.raises(SourceError, match="without its end"):
        open_source("gst:videotestsrc")
