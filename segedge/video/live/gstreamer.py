"""GStreamer pipelines, where OpenCV was built with GStreamer: JetPack's, Debian's; not PyPI's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from segedge.errors import SourceError
from segedge.video.live.address import masked
from segedge.video.live.connection import Picture
from segedge.video.live.source import LiveSource
from segedge.video.options import SourceOptions

PREFIX = "gst:"


def gstreamer_source(
    spec: str,
    *,
    options: SourceOptions | None = None,
) -> LiveSource:
    """What the ``appsink`` of ``gst:`` and a pipeline gives; best with BGR before it."""
    options = options or SourceOptions()
    pipeline = spec.removeprefix(PREFIX).strip()
    if not has_gstreamer():
        raise SourceError(
            "this OpenCV has no GStreamer",
            facts={"found": f"OpenCV {cv2.__version__} as pip installs it is built without"},
            fix="use the system's OpenCV (JetPack, or apt install python3-opencv), "
            "or an address that FFmpeg reads: rtsp://, http://, /dev/video0",
        )
    if "appsink" not in pipeline:
        raise SourceError(
            "a GStreamer pipeline without its end",
            facts={"found": masked(pipeline) or "nothing", "expected": "... ! appsink"},
            fix=f"'{PREFIX}{masked(pipeline) or 'videotestsrc'} ! videoconvert ! "
            "video/x-raw,format=BGR ! appsink drop=true max-buffers=1'",
        )
    return LiveSource(
        masked(spec),
        lambda: GStreamerConnection(pipeline),
        reconnect=options.reconnect,
        stall_seconds=options.timeout_seconds,
    )


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with it."""
    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))


class GStreamerConnection:
    """A running pipeline."""

    seconds: float | None = None
    left_out = 0

    def __init__(self, pipeline: str, *, capture: Any = None) -> None:
        """Start a pipeline, without its prefix."""
        self._capture = capture or cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if not self._capture.isOpened():
            alone = masked(pipeline).replace("appsink", "fakesink")
            raise SourceError(
                "the GStreamer pipeline does not start",
                facts={"found": masked(pipeline)},
                fix=f"try it alone: gst-launch-1.0 {alone}",
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps <= 1000 else None

    def pictures(self) -> Iterator[Picture]:
        """What the appsink gives; grey is repeated to three channels."""
        while True:
            if not self._capture.grab():
                return
            captured_ns = time.monotonic_ns()
            fine, image = self._capture.retrieve()
            if not fine:
                return
            if image.ndim == 2:
                image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            decode_ms = (time.monotonic_ns() - captured_ns) / 1e6
            # A copy: the capture may give the same array again.
            yield Picture(np.array(image, np.uint8), captured_ns, None, decode_ms)

    def close(self) -> None:
        """Stop the pipeline."""
        self._capture.release()
