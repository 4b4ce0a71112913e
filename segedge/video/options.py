"""SourceOptions: what a user may ask of a source beyond its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from segedge.errors import UsageError, unknown_name_error

Decoder = Literal["auto", "cpu", "nvdec"]
DECODERS: tuple[Decoder, ...] = ("auto", "cpu", "nvdec")

_HEIGHT_NAMES = {"480p": (480, 640), "720p": (720, 1280), "1080p": (1080, 1920)} | {
    "1440p": (1440, 2560),
    "2160p": (2160, 3840),
    "4k": (2160, 3840),
}
"""Short names of sizes, to (height, width)."""

_MAX_SIDE = 16384
"""Beyond it OpenCV and most codecs refuse."""


@dataclass(frozen=True)
class SourceOptions:
    """How a source is opened; what a kind of source cannot do is refused by `open_source`."""

    size: tuple[int, int] | None = None
    """(height, width) asked of a camera or test pattern; None leaves it to the device."""
    fps: float | None = None
    """Frames a second asked of a camera or test pattern, or at which images are paced."""
    pixel_format: str | None = None
    """What a camera sends: ``mjpeg``, ``yuyv422``, ``nv12``, ``h264`` ..., in FFmpeg's words."""
    decoder: Decoder = "auto"
    """Where H.264, H.265 and AV1 are decoded; `auto` is the CPU (see `sources/decoder.py`)."""
    motion_vectors: bool = False
    """Whether frames carry the codec's motion vectors, where a decoder on the CPU has some."""
    deinterlace: bool = False
    """Whether the pictures of a video file are made whole, where it is interlaced."""
    pace: bool = False
    """Whether a file comes at its own rate, like a camera, instead of as fast as possible."""
    reconnect: bool = True
    """Whether a live source that is lost is opened again, until it is back."""
    timeout_seconds: float = 5.0
    """How long nothing may come from a live source before it counts as lost."""

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise unknown_name_error("decoder", self.decoder, DECODERS)
        if self.size is not None and not all(1 <= side <= _MAX_SIDE for side in self.size):
            raise UsageError(
                f"no picture is {self.size[1]}x{self.size[0]}",
                facts={"expected": f"sides of 1 to {_MAX_SIDE} pixels"},
            )
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(
                f"a rate must be above 0 and at most 1000, found {self.fps:g}",
                fix="--source-fps 30",
            )
        if not self.timeout_seconds > 0:
            raise UsageError(
                f"a timeout must be above 0 s, found {self.timeout_seconds:g}", fix="--timeout 5"
            )


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of ``1280x720``, ``720p`` or ``4k``."""
    named = _HEIGHT_NAMES.get(text.lower())
    if named is not None:
        return named
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.lower())
    if match is None:
        raise UsageError(
            f"no size {text!r}",
            facts={"expected": f"WIDTHxHEIGHT, or one of {', '.join(_HEIGHT_NAMES)}"},
            fix="1280x720",
        )
    return int(match[2]), int(match[1])
