"""Addresses of streams and cameras: their kinds, and the form in which they may be shown."""

from __future__ import annotations

import re

SCHEMES = ("rtsp", "rtsps", "http", "https", "tcp", "udp", "rtp", "rtmp", "rtmps", "srt")
"""What FFmpeg reads for us."""

_USER = re.compile(r"(?<=://)[^/?#\s]*@")
"""Greedy up to the last @ before the path: a password may hold an @ itself."""

_SECRET = re.compile(
    r"(?i)([?&;](?:[^=&;\s]*(?:token|pass|pwd|secret|key|auth|sig|cred|user|login|account)[^=&;\s]*"
    r"|pw|p|u|usr|loginuse|loginpas))=[^&;#\s]*"
)
"""Parameters that cameras and services take credentials by."""


def scheme_of(spec: str) -> str | None:
    """``rtsp`` of ``rtsp://...``, in lower case; None where it is no address."""
    scheme, mark, _ = spec.partition("://")
    return scheme.lower() if mark and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) else None


def masked(text: str) -> str:
    """The text with user names, passwords and tokens of the addresses in it replaced."""
    return _SECRET.sub(r"\1=***", _USER.sub("***@", text))


def host_of(address: str) -> str:
    """The host's name or number, without port and credentials; empty where there is none."""
    rest = address.partition("://")[2]
    rest = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if rest.startswith("["):
        return rest[1:].partition("]")[0]
    return rest.partition(":")[0]


def is_camera_spec(spec: str) -> bool:
    """Whether it is spelled as a camera: ``0``, ``camera:0``, ``/dev/video0``."""
    prefixes = ("camera:", "/dev/video", "/dev/v4l/")
    return spec.startswith(prefixes) or bool(re.fullmatch(r"\d{1,3}", spec))
