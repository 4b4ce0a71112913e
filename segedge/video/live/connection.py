"""AvConnection: pictures of something that FFmpeg has opened and that arrives by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError
from segedge.video.bgr import BgrConverter
from segedge.video.ffmpeg import av
from segedge.video.upright import pixel_aspect
from segedge.video.vectors import ask_vectors, vectors_of

MAX_DAMAGED = 50
"""Damaged pictures in a row that are left out; then they are shown, for want of better ones.

After a loss H.264 is damaged up to the next key frame, which is two seconds away at most as
cameras are set; a stream with intra refresh may have none at all.
"""

_MAX_PENDING = 256
"""Arrival times kept for pictures that are not out yet: no codec reorders over more."""


@dataclass(frozen=True)
class Picture:
    """One image as it arrived."""

    image_hwc: NDArray[np.uint8]
    """H x W x 3 uint8 BGR, of its own."""
    captured_ns: int
    """When it arrived (a camera: when it was exposed), on the monotonic clock."""
    stream_seconds: float | None
    """Its time in the stream's own clock; None where that says nothing."""
    decode_ms: float
    """Decoding and conversion, without the wait for it."""
    motion_vectors: NDArray[Any] | None = None
    """The codec's, where they were asked for and it has some."""


class Connection(Protocol):
    """What a `LiveSource` reads while the source is there."""

    @property
    def fps(self) -> float | None:
        """Nominal frames a second, None where unknown."""

    @property
    def seconds(self) -> float | None:
        """Length of what has an end, such as a file on a web server; None for a live one."""

    @property
    def left_out(self) -> int:
        """Pictures so far that came damaged and were not given."""

    def pictures(self) -> Iterator[Picture]:
        """What arrives, until the other side ends it; `SourceError` where it broke off."""

    def close(self) -> None:
        """Free what it holds; in the thread that reads."""


class AvConnection:
    """A container and its video stream."""

    def __init__(
        self,
        container: Any,
        stream: Any,
        *,
        name: str,
        translate: Callable[[Any], SourceError],
        has_times: bool = True,
        captured_ns: Callable[[Any, int], int] = lambda packet, now_ns: now_ns,
        seconds: float | None = None,
        motion_vectors: bool = False,
    ) -> None:
        """Take over an open container.

        ``translate`` makes FFmpeg's error ours; ``has_times``: the stream's mean something (those
        of MJPEG over HTTP are made up by FFmpeg); ``captured_ns`` tells when a packet was captured,
        from itself and the time of its arrival; ``seconds``: its length, where it has an end.
        """
        self._motion_vectors = motion_vectors
        if motion_vectors:
            ask_vectors(stream)
        self._container = container
        self._stream = stream
        self._name = name
        self._translate = translate
        self._has_times = has_times
        self._captured_ns = captured_ns
        self._damaged = 0
        self.left_out = 0
        self._arrivals: dict[int, int] = {}
        self.seconds = seconds
        rate = stream.average_rate or (stream.guessed_rate if has_times else None)
        self.fps = float(rate) if rate and rate < 1000 else None
        stream.thread_type = "SLICE"  # frame threads would each hold a picture back

    def pictures(self) -> Iterator[Picture]:
        """Decoded pictures; damaged ones are left out, `MAX_DAMAGED` at most."""
        packets = self._container.demux(self._stream)
        to_bgr = BgrConverter(pixel_aspect(self._stream))
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                raise self._translate(error) from None
            if packet is None:
                break
            yield from self._decoded(packet, to_bgr)
        if self._damaged:
            raise SourceError(f"{self._name} broke off", facts={"found": "it ended in mid-frame"})

    def close(self) -> None:
        """Close the container."""
        self._container.close()

    def _decoded(self, packet: Any, to_bgr: BgrConverter) -> Iterator[Picture]:
        start_ns = time.monotonic_ns()
        self._remember(packet, start_ns)
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            self._damaged += 1
            self.left_out += 1
            return
        for picture in pictures:
            self._damaged = self._damaged + 1 if picture.is_corrupt else 0
            if 0 < self._damaged <= MAX_DAMAGED:
                self.left_out += 1
                continue
            image = to_bgr(picture)
            captured_ns = self._arrivals.pop(picture.pts, start_ns)
            seconds = float(picture.time) if self._has_times and picture.time is not None else None
            decode_ms = (time.monotonic_ns() - start_ns) / 1e6
            vectors = vectors_of(picture) if self._motion_vectors else None
            yield Picture(image, captured_ns, seconds, decode_ms, vectors)
            start_ns = time.monotonic_ns()

    def _remember(self, packet: Any, now_ns: int) -> None:
        """With B-frames a picture comes out after later packets: it is as old as its own."""
        if packet.pts is None:
            return
        if len(self._arrivals) >= _MAX_PENDING:
            self._arrivals.clear()
        self._arrivals[packet.pts] = self._captured_ns(packet, now_ns)
