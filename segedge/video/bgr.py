"""Decoded pictures of FFmpeg to images, and the video stream of a container: what all share."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError
from segedge.video.ffmpeg import av

_ROTATIONS = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}
"""Display-matrix angle (counter-clockwise degrees, modulo 360) to OpenCV's code."""

_TAKES_THREADS = "threads" in (av.video.reformatter.VideoReformatter.reformat.__doc__ or "")
"""Older PyAV cannot set the threads of a conversion."""

LENIENT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""For ``av.open``: titles in an odd encoding are no reason to refuse a video. PyAV 19 has no such
argument and replaces by itself."""


class BgrConverter:
    """Decoded pictures to upright BGR arrays that nobody else writes to.

    One reformatter keeps FFmpeg's scaler between frames; it runs on this one thread, since its
    own pool only fights with the decoder's and the network's (on two busy cores the same
    conversion of 1080p took 0.8 ms so, and 3 to 9 ms with threads).
    """

    def __init__(self) -> None:
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._options = {"threads": 1} if _TAKES_THREADS else {}

    def __call__(self, picture: Any) -> NDArray[np.uint8]:
        """H x W x 3 uint8, C-contiguous: a view of the new picture where its rows have no gap."""
        bgr = self._reformatter.reformat(picture, format="bgr24", **self._options)
        image = np.ascontiguousarray(bgr.to_ndarray(), np.uint8)
        turn = _ROTATIONS.get(angle_of(picture))
        return image if turn is None else np.asarray(cv2.rotate(image, turn), np.uint8)


def angle_of(picture: Any) -> int:
    """How far the picture is to be turned, counter-clockwise degrees, 0 to 359."""
    return int(getattr(picture, "rotation", 0)) % 360


def video_stream(container: Any, name: str, *, fix: str) -> Any:
    """The first video stream of an open container, with a decoder, or a `SourceError`.

    ``name`` is shown in it, so without credentials.
    """
    if not container.streams.video:
        others = ", ".join(
            f"{s.type} ({s.codec_context.name})"
            for s in container.streams
            if s.codec_context is not None
        )
        raise SourceError(
            f"{name} has no video stream", facts={"found": others or "no stream at all"}
        )
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise SourceError(
            f"no decoder for {name}",
            facts={"found": "a codec that this build of FFmpeg lacks"},
            fix=fix,
        )
    return stream
