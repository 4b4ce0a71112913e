"""Decoded pictures of FFmpeg to images, and the video stream of a container: what all share."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError
from segedge.video.ffmpeg import av
from segedge.video.upright import PLAIN, Signs, signs_of, square_size, turned

_DEFAULT, _COVER = 1, 1 << 10
"""FFmpeg's AV_DISPOSITION_DEFAULT and AV_DISPOSITION_ATTACHED_PIC."""

_TAKES_THREADS = "threads" in (av.video.reformatter.VideoReformatter.reformat.__doc__ or "")
"""Older PyAV cannot set the threads of a conversion."""

LENIENT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""For ``av.open``: titles in an odd encoding are no reason to refuse a video. PyAV 19 has no such
argument and replaces by itself."""


class BgrConverter:
    """Decoded pictures to upright BGR arrays with square pixels that nobody else writes to.

    One reformatter keeps FFmpeg's scaler between frames; it runs on this one thread, since its
    own pool only fights with the decoder's and the network's (on two busy cores the same
    conversion of 1080p took 0.8 ms so, and 3 to 9 ms with threads).
    """

    def __init__(self, aspect: Fraction = Fraction(1)) -> None:
        """Pixels are ``aspect`` times as wide as high; see `upright.pixel_aspect`."""
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._options: dict[str, Any] = {"threads": 1} if _TAKES_THREADS else {}
        self._aspect = aspect
        self._rotation: int | None = None
        self._signs: Signs = PLAIN

    def __call__(self, picture: Any) -> NDArray[np.uint8]:
        """H x W x 3 uint8, C-contiguous: a view of the new picture where its rows have no gap."""
        if self._aspect != 1:
            height, width = square_size(picture.height, picture.width, self._aspect)
            self._options |= {"width": width, "height": height}
        bgr = self._reformatter.reformat(picture, format="bgr24", **self._options)
        image = np.ascontiguousarray(bgr.to_ndarray(), np.uint8)
        return turned(image, self._signs_of(picture))

    def shown_size(self, picture: Any) -> tuple[int, int]:
        """(height, width) of what becomes of a picture."""
        height, width = square_size(picture.height, picture.width, self._aspect)
        return (width, height) if self._signs_of(picture)[0] == 0 else (height, width)

    def shown_aspect(self, picture: Any) -> Fraction:
        """Width of a pixel by its height in the file, once a picture is turned upright."""
        return 1 / self._aspect if self._signs_of(picture)[0] == 0 else self._aspect

    def _signs_of(self, picture: Any) -> Signs:
        """Its display matrix: looked up only where the cheap angle is another than before."""
        rotation = int(getattr(picture, "rotation", 0))
        if rotation != self._rotation:
            self._rotation, self._signs = rotation, signs_of(picture)
        return self._signs


def bits_used(picture: Any) -> int | None:
    """Of a picture with 16 bits a sample, where no brighter one than a sensor's 14 is in it."""
    if max(component.bits for component in picture.format.components) < 16:
        return None
    brightest = int(picture.reformat(format="gray16le").to_ndarray().max())
    return brightest.bit_length() if 0 < brightest < 1 << 14 else None


def video_stream(container: Any, name: str, *, fix: str) -> Any:
    """The video stream of an open container that players show, or a `SourceError`.

    That is the default one, else the first; the cover of a piece of music is none. ``name`` is
    shown in the error, so without credentials.
    """
    shown = [s for s in container.streams.video if not int(s.disposition) & _COVER]
    if not shown:
        others = ", ".join(
            f"{'cover' if int(s.disposition) & _COVER else s.type} ({s.codec_context.name})"
            for s in container.streams
            if s.codec_context is not None
        )
        raise SourceError(
            f"{name} has no video stream", facts={"found": others or "no stream at all"}
        )
    stream = next((s for s in shown if int(s.disposition) & _DEFAULT), shown[0])
    if stream.codec_context is None:
        raise SourceError(
            f"no decoder for {name}",
            facts={"found": "a codec that this build of FFmpeg lacks"},
            fix=fix,
        )
    return stream
