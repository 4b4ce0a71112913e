"""Network streams: RTSP, HTTP (MJPEG, HLS, TS), TCP and UDP MPEG-TS, RTMP, through FFmpeg."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import Any

from segedge.errors import SourceError
from segedge.video.bgr import LENIENT, video_stream
from segedge.video.decoder import choose_decoder
from segedge.video.ffmpeg import av
from segedge.video.live.address import host_of, masked, scheme_of
from segedge.video.live.connection import AvConnection
from segedge.video.live.source import LiveSource, Wait
from segedge.video.options import SourceOptions

_COMMON = {"analyzeduration": "1000000"}
"""FFmpeg looks at 5 s of a stream before it gives the first frame; one is enough."""

_OPTIONS: dict[str, dict[str, str]] = {
    # By TCP: most routers drop UDP, and a lost packet damages pictures up to the next key frame.
    "rtsp": {"rtsp_transport": "tcp"},
    "rtsps": {"rtsp_transport": "tcp"},
    # A burst that does not fit its buffer costs a picture, not the stream.
    "udp": {"overrun_nonfatal": "1", "fifo_size": "50000"},
}
"""What FFmpeg is told for a scheme."""

_NO_TIMES = ("mpjpeg",)
"""Formats whose times FFmpeg makes up."""

_SILENT = (av.error.ExitError, av.error.TimeoutError)
"""FFmpeg's words for a time-out: PyAV's own interrupt, and the operating system's."""


def network_stream(
    address: str,
    *,
    options: SourceOptions | None = None,
    on_note: Callable[[str], None] | None = None,
    wait: Wait | None = None,
) -> LiveSource:
    """A stream at an address; its user and password are never shown."""
    options = options or SourceOptions()
    hwaccel, note = choose_decoder(options.decoder)

    def connect() -> AvConnection:
        return _connect(address, hwaccel, options)

    name = masked(address)
    return LiveSource(
        name,
        connect,
        reconnect=options.reconnect,
        # FFmpeg's own time-out is first, once for the opening and once for the analysis; this
        # one is for what it does not watch over, such as the name's resolution.
        stall_seconds=2 * options.timeout_seconds + 1,
        notes=(f"{name}: {note}",) if note else (),
        on_note=on_note,
        wait=wait,
    )


def _connect(address: str, hwaccel: Any, options: SourceOptions) -> AvConnection:
    timeout_seconds = options.timeout_seconds

    def translate(error: Any) -> SourceError:
        return _translated(error, address, timeout_seconds)

    def broken(error: Any) -> SourceError:
        if getattr(error, "errno", None) in (errno.EIO, errno.ECONNRESET, errno.EPIPE):
            return _broken_off(address)
        return translate(error)

    start = time.monotonic()
    try:
        container = av.open(
            address,
            timeout=timeout_seconds,
            hwaccel=hwaccel,
            options=_COMMON | _OPTIONS.get(scheme_of(address) or "", {}),
            **LENIENT,
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if time.monotonic() - start >= timeout_seconds:  # RTSP tells a time-out as invalid data
            raise _silent(masked(address), timeout_seconds) from None
        raise translate(error) from None  # its own text has the address with the password
    try:
        fix = "let the sender encode H.264, H.265 or MJPEG"
        stream = video_stream(container, masked(address), fix=fix)
    except SourceError:
        container.close()
        raise
    seconds = container.duration / av.time_base if container.duration else None
    return AvConnection(
        container,
        stream,
        name=masked(address),
        translate=broken,
        has_times=container.format.name not in _NO_TIMES,
        seconds=seconds if seconds and seconds > 0 else None,
        motion_vectors=options.motion_vectors,
    )


def _translated(error: Any, address: str, timeout_seconds: float) -> SourceError:
    """FFmpeg's error as ours; the first that fits."""
    name, text = masked(address), _reason(error)
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        has_user = name != address
        return SourceError(
            f"{name} refuses the credentials" if has_user else f"{name} wants credentials",
            facts={"found": text},
            fix="scheme://USER:PASSWORD@host/...; encode special characters: @ is %40, : is %3A",
        )
    if isinstance(error, av.error.HTTPClientError | av.error.HTTPServerError):
        return SourceError(
            f"cannot read {name}", facts={"found": text}, fix="check the address's path"
        )
    if isinstance(error, av.error.ConnectionRefusedError):
        return SourceError(
            f"{name} refuses the connection",
            facts={"found": "connection refused: nothing listens there"},
            fix="check host and port, and that the sender runs",
        )
    if isinstance(error, _SILENT):
        return _silent(name, timeout_seconds)
    if isinstance(error, av.error.InvalidDataError):
        return SourceError(
            f"{name} is no video", facts={"found": text}, fix="check that it plays, e.g. ffplay"
        )
    if isinstance(error, av.error.ProtocolNotFoundError | av.error.DemuxerNotFoundError):
        return SourceError(
            f"cannot read {name}",
            facts={"found": f"this build of FFmpeg has no {scheme_of(address)}"},
            fix="pip install --upgrade av, or send it as rtsp, http, tcp or udp",
        )
    return _input_output(error, address, text)


def _broken_off(address: str) -> SourceError:
    return SourceError(
        f"{masked(address)} broke off",
        facts={"found": "the connection broke off"},
        fix="check the network, and that the sender runs",
    )


def _silent(name: str, timeout_seconds: float) -> SourceError:
    return SourceError(
        f"no answer from {name}",
        facts={"found": f"timed out after {timeout_seconds:g} s"},
        fix="check host, port and firewall, or wait longer: --timeout 20",
    )


def _input_output(error: Any, address: str, text: str) -> SourceError:
    """FFmpeg says "Input/output error" for a name unknown, a web page and a broken connection."""
    name, host = masked(address), host_of(address)
    if getattr(error, "errno", None) != errno.EIO:
        return SourceError(f"cannot read {name}", facts={"found": text})
    try:
        if host:
            socket.getaddrinfo(host, None)
    except OSError as failure:
        return SourceError(
            f"cannot find {host}",
            facts={"found": failure.strerror or "the name does not resolve"},
            fix="check the name, or give the number",
        )
    return SourceError(
        f"cannot read {name}",
        facts={"found": "the connection broke off, or what came is no video"},
        fix="check that it plays, e.g. ffplay",
    )


def _reason(error: Any) -> str:
    """FFmpeg's words without the address, which its `str` has with the password."""
    return masked(str(getattr(error, "strerror", None) or error))
