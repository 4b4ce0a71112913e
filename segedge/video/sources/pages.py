"""Image files that hold several pictures: pages of a TIFF, animated PNG and WebP."""

from __future__ import annotations

import struct

_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_ANIMATED = 0x02
"""A flag of WebP's extended header."""


def has_more_pictures(data: bytes) -> bool:
    """Whether a whole file holds pictures behind the first, which is the one that is read."""
    if data[:4] in _TIFF:
        return _has_next_directory(data, _TIFF[data[:4]])
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"acTL" in data[:4096].partition(b"IDAT")[0]
    return data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and bool(data[20] & _ANIMATED)


def _has_next_directory(data: bytes, order: str) -> bool:
    """A directory is a count, entries of 12 bytes and the place of the next (TIFF 6.0, 2)."""
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        (following,) = struct.unpack_from(f"{order}I", data, start + 2 + 12 * count)
    except struct.error:
        return False
    return bool(following)
