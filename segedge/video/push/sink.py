"""PushSink: overlays as a live stream to an RTSP, RTMP or MPEG-TS receiver."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import UsageError
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.video.encode.encoders import choose_encoder
from segedge.video.encode.options import EncodeOptions
from segedge.video.picture import Clock, Fitter, to_yuv
from segedge.video.push.link import Link, NetworkStream, Stream, check_address, push_error, redacted

_KEY_SECONDS = 1.0
"""Who joins waits this long for a picture."""

CONNECT_SECONDS = 10.0
STALL_SECONDS = 5.0
FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 1.0, 30.0

Connect = Callable[[tuple[int, int], Clock], Stream]


class PushSink:
    """A stream to somewhere else, encoded for low latency.

    - *Start*: the first frame connects, and fails the run where nobody answers.
    - *Lost*: a live push goes on: it connects again after 1, 2, 4 ... 30 s, counts the frames in
      between as dropped, and holds up nothing. A push of a file ends with the error.
    - *Slow receiver*: a live push drops frames where more than four wait; a push of a file waits,
      and takes 5 s without progress for a lost connection.
    - *Size*: as in `VideoSink`, frames of another size are letterboxed onto the first.
    """

    def __init__(
        self,
        url: str,
        *,
        fps: float,
        options: EncodeOptions | None = None,
        live: bool = True,
        connect: Connect | None = None,
        clock: Callable[[], float] = time.monotonic,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        """Check the address; the first frame connects. ``connect`` and ``clock`` are for tests.

        ``rtsp://``, ``rtmp://``, ``rtmps://``, ``udp://`` or ``tcp://``; the last two get MPEG-TS.
        ``low_latency`` is set, key frames come once a second at least.
        """
        options = options or EncodeOptions()
        check_address(url, options.codec)
        if not fps > 0:
            raise UsageError(f"a stream needs a positive rate, found {fps} frames a second")
        key_seconds = min(options.key_seconds, _KEY_SECONDS)
        self._options = replace(options, low_latency=True, key_seconds=key_seconds)
        self._url, self._name, self._fps, self._live = url, redacted(url), fps, live
        self._connect = connect or self._open
        self._clock = clock
        self._connect_seconds = connect_seconds
        self._fitter = Fitter(self._name)
        self._link: Link | None = None
        self._ticks = Clock(fps)
        self._frames = 0
        self._sent_before = 0
        self._lost = 0
        self._delay = FIRST_DELAY_SECONDS
        self._since = 0.0
        self._retry_at: float | None = None
        self._is_closed = False
        self.needs = frozenset({"overlay"})
        self.paths: Sequence[Path] = ()

    @property
    def sent(self) -> int:
        """Frames handed to the network."""
        return self._sent_before + (self._link.sent if self._link else 0)

    @property
    def dropped(self) -> int:
        """Frames that were not, or not yet."""
        return self._frames - self.sent

    @property
    def notes(self) -> list[str]:
        """Frames of another size, the encoder, and what was lost."""
        notes = list(self._fitter.notes)
        if self._lost or self.dropped:
            notes.append(
                f"{self._name}: {self.dropped} of {self._frames} frames were not sent; "
                f"connection lost {self._lost} {'time' if self._lost == 1 else 'times'}"
            )
        return notes

    def write(self, frame: Frame, result: ResultView) -> None:
        """Queue one overlay for the network."""
        check_takes(not self._is_closed, self._name)
        with frame.times.measure("encode"):
            image = self._fitter(result.overlay(), frame.index)
            self._frames += 1
            if self._link is None:
                self._start(frame, image)
            elif self._link.connected:
                self._offer(self._link, self._picture(frame, image))
            elif self._link.failed or self._waited():
                self._lose(self._link)

    def close(self, *, error: bool = False) -> None:
        """Send what waits, say goodbye; after 5 s without it."""
        self._is_closed = True
        if self._link is None:
            return
        link = self._link
        link.finish(wait_seconds=STALL_SECONDS)
        self._forget()
        if link.failed and not self._live and not error:
            raise push_error(self._url, link.error, seconds=STALL_SECONDS)

    def _start(self, frame: Frame, image: NDArray[np.uint8]) -> None:
        """Connect with this frame, if it is time; only the very first one is waited for."""
        if self._retry_at is not None and self._clock() < self._retry_at:
            return
        self._ticks = Clock(self._fps)  # every connection begins at time 0
        size, ticks = self._fitter.even_size, self._ticks
        self._link, self._since = Link(lambda: self._connect(size, ticks)), self._clock()
        self._link.offer(self._picture(frame, image), wait_seconds=0.0)
        if self._retry_at is None and not self._link.wait_connected(self._connect_seconds):
            failure = self._link.error
            self._forget()
            raise push_error(self._url, failure, seconds=self._connect_seconds)

    def _offer(self, link: Link, picture: Any) -> None:
        if self._retry_at is not None:
            self._retry_at, self._delay = None, FIRST_DELAY_SECONDS
        room = link.offer(picture, wait_seconds=0.0 if self._live else STALL_SECONDS)
        if link.failed or not (room or self._live):
            self._lose(link)

    def _picture(self, frame: Frame, image: NDArray[np.uint8]) -> Any:
        picture = to_yuv(image)
        picture.pts, picture.duration = self._ticks.ticks(frame.pts_seconds)
        picture.time_base = self._ticks.time_base
        return picture

    def _waited(self) -> bool:
        return self._clock() - self._since > self._connect_seconds

    def _lose(self, link: Link) -> None:
        """The connection is gone: plan the next, or give up where frames must not be lost."""
        if self._retry_at is None:
            self._lost += 1
        self._forget()
        if not self._live:
            raise push_error(self._url, link.error, seconds=STALL_SECONDS)
        self._retry_at = self._clock() + self._delay
        self._delay = min(2 * self._delay, LAST_DELAY_SECONDS)

    def _forget(self) -> None:
        """The connection is over, one that hangs too; what it has sent counts."""
        if self._link is not None:
            self._link.abort()
            self._sent_before += self._link.sent
        self._link = None

    def _open(self, size: tuple[int, int], clock: Clock) -> Any:
        choice = choose_encoder(self._options, size)
        if choice.note and choice.note not in self._fitter.notes:
            self._fitter.notes.append(choice.note)
        return NetworkStream(self._url, choice, self._options, size, clock)
