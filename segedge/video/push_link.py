"""One connection of a push: opened, fed and closed in a thread of its own, which may hang."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

import av
import av.error

from segedge.errors import SegedgeError, SinkError, UsageError, unknown_name_error
from segedge.video.encode_options import EncodeOptions
from segedge.video.encoder_settings import configure
from segedge.video.encoders import Choice
from segedge.video.picture import Clock

FORMATS = {"rtsp": "rtsp", "rtmp": "flv", "rtmps": "flv", "udp": "mpegts", "tcp": "mpegts"}
"""Scheme of an address to FFmpeg's name of the format that is sent there."""

_OPTIONS = {
    "rtsp": {"rtsp_transport": "tcp"},
    "flv": {"flvflags": "no_duration_filesize", "flush_packets": "1"},
    "mpegts": {"flush_packets": "1", "mpegts_flags": "+resend_headers"},
}
_QUERY = {"tcp": "timeout=5000000&tcp_nodelay=1", "udp": "pkt_size=1316"}
"""Where the address has none; microseconds, and seven packets of MPEG-TS in one of Ethernet."""

_WAITING = 4
"""Pictures between the run and the network."""


class Stream(Protocol):
    """Somewhere to send pictures to."""

    def send(self, picture: Any) -> None:
        """Encode and send one."""

    def finish(self) -> None:
        """Send what the encoder still has, and say goodbye."""


class NetworkStream:
    """An encoder and FFmpeg's connection."""

    def __init__(
        self, url: str, choice: Choice, options: EncodeOptions, size: tuple[int, int], clock: Clock
    ) -> None:
        """Connect.

        Raises:
            OSError: Refused, unreachable, no such host.
            av.error.FFmpegError: The other side does not want it.
        """
        parts = urlsplit(url)
        if parts.hostname:
            socket.getaddrinfo(parts.hostname, parts.port or 0)  # FFmpeg says "I/O error" only
        kind = FORMATS[parts.scheme]
        if parts.scheme in _QUERY and not parts.query:
            url = f"{url}?{_QUERY[parts.scheme]}"
        self._container = av.open(url, "w", format=kind, options=_OPTIONS[kind])
        stream: Any = self._container.add_stream(choice.encoder, rate=clock.rate)
        stream.height, stream.width = size
        configure(stream.codec_context, choice.encoder, options, clock.rate, clock.time_base)
        self._stream = stream
        self._container.start_encoding()

    def send(self, picture: Any) -> None:
        """Encode and send one picture."""
        self._container.mux(self._stream.encode(picture))

    def finish(self) -> None:
        """Send what the encoder still has, and close."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


class Link:
    """A `Stream` behind a thread. Whatever the network does, nobody waits for it longer than told.

    The thread is a daemon: one that hangs in a dead connection is left behind.
    """

    def __init__(self, connect: Callable[[], Stream]) -> None:
        """Start to connect.

        Args:
            connect: Makes the stream; called in the thread.
        """
        self.error: Exception | None = None
        """Why it is no more."""
        self.sent = 0
        """Pictures that were handed to the network."""
        self._connect = connect
        self._tried = threading.Event()
        self._done = threading.Event()
        self._box: queue.Queue[Any] = queue.Queue(_WAITING)
        threading.Thread(target=self._run, name="segedge-push", daemon=True).start()

    @property
    def connected(self) -> bool:
        """Whether pictures can be offered."""
        return self._tried.is_set() and not self._done.is_set()

    @property
    def failed(self) -> bool:
        """Whether it is over."""
        return self.error is not None

    def wait_connected(self, seconds: float) -> bool:
        """Whether it is connected within this time; see `error` where it is not."""
        self._tried.wait(seconds)
        return self.connected

    def offer(self, picture: Any, *, wait_seconds: float) -> bool:
        """Queue a picture; False where there was no room in that time."""
        try:
            self._box.put(picture, block=wait_seconds > 0, timeout=wait_seconds or None)
        except queue.Full:
            return False
        return True

    def finish(self, *, wait_seconds: float) -> None:
        """Send what is queued and close; gives up after this time."""
        if self.connected and self.offer(None, wait_seconds=wait_seconds):
            self._done.wait(wait_seconds)

    def _run(self) -> None:
        try:
            stream = self._connect()
            self._tried.set()
            for picture in iter(self._box.get, None):
                stream.send(picture)
                self.sent += 1
            stream.finish()
        except Exception as error:
            self.error = error
        finally:
            self._done.set()
            self._tried.set()
            with suppress(queue.Empty):  # whoever waits for room
                while True:
                    self._box.get_nowait()


def check_address(url: str, codec: str) -> None:
    """Raise UsageError for an address that nothing can be pushed to."""
    parts = urlsplit(url)
    if parts.scheme not in FORMATS:
        raise unknown_name_error("address kind", parts.scheme, tuple(FORMATS))
    if not parts.hostname:
        raise UsageError(
            f"{url} names no host", fix=f"-o {parts.scheme}://HOST:PORT{parts.path or '/NAME'}"
        )
    try:
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{redacted(url)}: {error}", fix="ports are 1 to 65535") from error
    if port is None and parts.scheme in ("udp", "tcp"):
        raise UsageError(f"{url} names no port", fix=f"-o {parts.scheme}://{parts.hostname}:5000")
    if codec == "av1" and FORMATS[parts.scheme] == "mpegts":
        raise UsageError("MPEG-TS holds no AV1", fix="--codec h264, or --codec h265")


def push_error(url: str, error: Exception | None, *, seconds: float) -> SinkError:
    """Why a connection could not be made, or was lost, in words."""
    where = urlsplit(url)
    target = f"{where.hostname}:{where.port}" if where.port else where.hostname
    found, fix = str(getattr(error, "strerror", None) or error), "check the address"
    if isinstance(error, SegedgeError):
        found, fix = error.headline, error.fix or fix
    if error is None:
        found, fix = f"no answer within {seconds:g} s", f"check that {target} can be reached"
    elif isinstance(error, socket.gaierror):
        found, fix = f"no host {where.hostname!r} ({error.strerror})", "check the name"
    elif isinstance(error, ConnectionRefusedError):
        found = f"{target} refuses connections: nothing listens there"
        fix = "start the server that receives the stream, then run again"
    elif isinstance(error, av.error.HTTPUnauthorizedError):
        fix = f"give user and password: {where.scheme}://USER:PASSWORD@{target}{where.path}"
    elif isinstance(error, av.error.ProtocolNotFoundError):
        found, fix = f"this build of FFmpeg has no {where.scheme}", "use rtsp://, rtmp:// or udp://"
    return SinkError(f"cannot push to {redacted(url)}", facts={"found": found}, fix=fix)


def redacted(url: str) -> str:
    """The address without its password, and without what follows a question mark."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}:***@" if parts.username else ""
    return f"{parts.scheme}://{user}{where}{parts.path}"
