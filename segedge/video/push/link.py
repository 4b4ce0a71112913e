"""One connection of a push, opened, fed and closed where nobody waits for it."""

from __future__ import annotations

import errno
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

from segedge.errors import SegedgeError, SinkError, UsageError, unknown_name_error
from segedge.video.encode.encoders import Choice
from segedge.video.encode.options import EncodeOptions
from segedge.video.encode.settings import open_encoder
from segedge.video.ffmpeg import av
from segedge.video.picture import Clock
from segedge.video.push import child as push_child

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
        """Encode and send one; the first one connects."""

    def finish(self) -> None:
        """Send what the encoder still has, and say goodbye."""

    def abort(self) -> None:
        """End whatever it is at; any thread may call it."""


class NetworkStream:
    """An encoder here, and FFmpeg's connection in a process of its own; see `push_child`."""

    def __init__(
        self, url: str, choice: Choice, options: EncodeOptions, size: tuple[int, int], clock: Clock
    ) -> None:
        """Start the process."""
        parts = urlsplit(url)
        if parts.hostname:
            socket.getaddrinfo(parts.hostname, parts.port or 0)  # FFmpeg says "I/O error" only
        kind = FORMATS[parts.scheme]
        if parts.scheme in _QUERY and not parts.query:
            url = f"{url}?{_QUERY[parts.scheme]}"
        self._codec = av.CodecContext.create(choice.encoder, "w")
        self._codec.height, self._codec.width = size
        open_encoder(self._codec, choice.encoder, options, clock.rate, clock.time_base)
        self._process = subprocess.Popen(
            [sys.executable, "-m", push_child.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is ours to handle
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        setup = {
            "url": url, "format": kind, "options": _OPTIONS[kind],
            "codec": {"h265": "hevc"}.get(options.codec, options.codec),
            "height": size[0], "width": size[1],
            "rate": str(clock.rate), "time_base": str(clock.time_base),
        }  # fmt: skip
        self._write(json.dumps(setup).encode() + b"\n")

    def send(self, picture: Any) -> None:
        """Encode one picture and have it sent."""
        for packet in self._codec.encode(picture):
            self._pass_on(packet)

    def finish(self) -> None:
        """Send what the encoder still has, and close."""
        for packet in self._codec.encode(None):
            self._pass_on(packet)
        self._write(push_child.HEAD.pack(0, 0, 0, 0, 0))
        self._read_answer()
        self._process.wait()

    def abort(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _pass_on(self, packet: Any) -> None:
        data = bytes(packet)
        times = (packet.pts, packet.dts, packet.duration or 0)
        self._write(push_child.HEAD.pack(*times, packet.is_keyframe, len(data)) + data)
        self._read_answer()

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _read_answer(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise OSError(errno.EPIPE, "the sending process ended")
        if line.strip():
            problem = json.loads(line)
            raise OSError(problem["errno"], problem["text"])


class Link:
    """A `Stream` behind a thread. Whatever the network does, nobody waits for it longer than told.

    `abort` frees it from a dead connection.
    """

    def __init__(self, connect: Callable[[], Stream]) -> None:
        """Start to connect, in a thread."""
        self.error: Exception | None = None
        """Why it is no more."""
        self.sent = 0
        """Pictures that were handed to the network."""
        self._connect = connect
        self._stream: Stream | None = None
        self._tried = threading.Event()
        self._done = threading.Event()
        self._box: queue.Queue[Any] = queue.Queue(_WAITING)
        threading.Thread(target=self._run, name="segedge-push", daemon=True).start()

    @property
    def connected(self) -> bool:
        """Whether the first picture was sent, and nothing has failed since."""
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

    def abort(self) -> None:
        """End the stream, whatever it hangs in."""
        if self._stream is not None:
            self._stream.abort()

    def _run(self) -> None:
        try:
            self._stream = stream = self._connect()
            for picture in iter(self._box.get, None):
                stream.send(picture)
                self.sent += 1
                self._tried.set()
            stream.finish()
        except Exception as error:
            self.error = error
        finally:
            self._done.set()
            self._tried.set()
            self.abort()
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
    if codec == "vp9":
        raise UsageError("VP9 is not pushed", fix="--codec h264, or -o out.webm")
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
    elif isinstance(error, PermissionError):
        fix = f"give user and password: {where.scheme}://USER:PASSWORD@{target}{where.path}"
    return SinkError(f"cannot push to {redacted(url)}", facts={"found": found}, fix=fix)


def redacted(url: str) -> str:
    """The address without its password, and without what follows a question mark."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}:***@" if parts.username else ""
    return f"{parts.scheme}://{user}{where}{parts.path}"
