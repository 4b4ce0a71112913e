"""Cameras: V4L2 devices of Linux, through FFmpeg's own reader."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

from segedge.errors import SourceError, UsageError
from segedge.video.bgr import video_stream
from segedge.video.decoder import choose_decoder
from segedge.video.ffmpeg import av
from segedge.video.live.connection import AvConnection
from segedge.video.live.source import LiveSource
from segedge.video.options import SourceOptions

# PyAV and not OpenCV: FFmpeg's reader says why it refuses (OpenCV only that it does), gives each
# frame the kernel's time of capture, so that latency begins at the sensor, and fails where OpenCV
# silently takes another pixel format.

_SPEC = re.compile(r"(?:camera:)?(\d{1,3}|/dev/.+)")

_MAX_AGE_NS = 2_000_000_000
"""A kernel's time further back than this is of another clock."""


def camera(
    spec: str,
    *,
    options: SourceOptions | None = None,
) -> LiveSource:
    """A camera: ``0``, ``camera:0``, ``/dev/video0`` or ``camera:/dev/v4l/by-id/...``."""
    options = options or SourceOptions()
    device = device_path(spec)
    hwaccel, note = choose_decoder(options.decoder)
    return LiveSource(
        spec,
        lambda: _connect(device, options, hwaccel),
        reconnect=options.reconnect,
        stall_seconds=options.timeout_seconds,
        notes=(f"{spec}: {note}",) if note else (),
    )


def device_path(spec: str) -> Path:
    """``/dev/video0`` of ``0``."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UsageError(
            f"no camera is spelled {spec!r}",
            facts={"expected": "0, camera:0, /dev/video0 or camera:/dev/v4l/by-id/NAME"},
        )
    return Path(f"/dev/video{match[1]}" if match[1].isdigit() else match[1])


def cameras_here(folder: str | Path = "/sys/class/video4linux") -> list[str]:
    """The video devices that the kernel lists: "/dev/video0 (HD Webcam)"."""
    entries = sorted(Path(folder).glob("video*"), key=lambda path: (len(path.name), path.name))
    found = []
    for entry in entries:
        try:
            name = (entry / "name").read_text("utf-8", "replace").strip()
        except OSError:
            name = ""
        found.append(f"/dev/{entry.name}" + (f" ({name})" if name else ""))
    return found


def _connect(device: Path, options: SourceOptions, hwaccel: Any) -> AvConnection:
    def translate(error: Any) -> SourceError:
        return _translated(error, device, options)

    if "v4l2" not in {name for entry in av.formats_available for name in entry.split(",")}:
        raise SourceError(
            f"cannot read camera {device}",
            facts={"found": "this build of PyAV has no V4L2"},
            fix="pip install --upgrade av, or a GStreamer pipeline: gst:v4l2src ! ...",
        )
    try:
        container = av.open(
            str(device),
            format="v4l2",
            options=_mode(options),
            hwaccel=hwaccel,
            timeout=options.timeout_seconds,
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise translate(error) from error
    try:
        stream = video_stream(container, str(device), fix="--pixel-format yuyv422 or mjpeg")
        _check_mode(device, options, stream)
    except SourceError:
        container.close()
        raise
    return AvConnection(
        container, stream, name=str(device), translate=translate, captured_ns=_captured_ns
    )


def _mode(options: SourceOptions) -> dict[str, str]:
    mode = {}
    if options.size is not None:
        mode["video_size"] = f"{options.size[1]}x{options.size[0]}"
    if options.fps is not None:
        mode["framerate"] = f"{options.fps:g}"
    if options.pixel_format is not None:
        mode["input_format"] = options.pixel_format
    return mode


def _check_mode(device: Path, options: SourceOptions, stream: Any) -> None:
    """A driver takes the nearest size that it has, and says so only when asked."""
    size = (stream.codec_context.height, stream.codec_context.width)
    if options.size is None or options.size == size:
        return
    raise SourceError(
        f"camera {device} has no mode {options.size[1]}x{options.size[0]}",
        facts={"found": f"its nearest is {size[1]}x{size[0]}"},
        fix=f"--size {size[1]}x{size[0]}, or see all: v4l2-ctl -d {device} --list-formats-ext",
    )


def _captured_ns(packet: Any, now_ns: int) -> int:
    """The kernel's time of capture, where it is of the monotonic clock as V4L2 drivers' are."""
    captured_ns = round(packet.pts * packet.time_base * 1_000_000_000)
    return captured_ns if 0 <= now_ns - captured_ns < _MAX_AGE_NS else now_ns


def _translated(error: Any, device: Path, options: SourceOptions) -> SourceError:
    code, text = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
    if code in (errno.ENOENT, errno.ENXIO):
        here = ", ".join(cameras_here())
        return SourceError(
            f"no camera {device}",
            facts={"found": here or "no camera at all"},
            fix="give one of these"
            if here
            else "plug one in; in a container: --device /dev/video0",
        )
    if code == errno.EBUSY:
        return SourceError(
            f"camera {device} is busy",
            facts={"found": "another program reads it"},
            fix=f"close that program; who it is: fuser -v {device}",
        )
    if code in (errno.EACCES, errno.EPERM):
        return SourceError(
            f"camera {device} may not be read",
            facts={"found": text},
            fix="sudo usermod -aG video $USER, then log in again",
        )
    if code in (errno.EINVAL, errno.ENOTTY):
        asked = ", ".join(f"{key} {value}" for key, value in _mode(options).items())
        return SourceError(
            f"camera {device} has no such mode" if asked else f"{device} is no camera",
            facts={"asked": asked, "found": text} if asked else {"found": text},
            fix=f"see its modes: v4l2-ctl -d {device} --list-formats-ext",
        )
    if code == errno.ENODEV:
        return SourceError(
            f"{device} gives no video",
            facts={"found": "unplugged, or a device for metadata only"},
            fix="plug it in, or take the next lower number",
        )
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        text = f"timed out after {options.timeout_seconds:g} s"
    return SourceError(f"cannot read camera {device}", facts={"found": text})
