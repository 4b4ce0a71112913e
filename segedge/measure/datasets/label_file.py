"""Label files: pixel values or colours, as they are stored."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError
from segedge.video.sources.images import quiet_opencv

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3


def read_label_file(path: str | Path) -> NDArray[Any]:
    """The values of a label file.

    H x W uint8 or uint16 (of grey and palette PNGs the indices), or H x W x 3 uint8 BGR of colours.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    indices, bits = _as_grey(data)
    with quiet_opencv():
        try:
            values: Any = cv2.imdecode(np.frombuffer(indices, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:  # an empty file, or a size beyond OpenCV's limits
            values = None
    if values is None:
        raise _unreadable(path, f"{len(data)} bytes that are no readable image")
    if values.ndim == 3:
        return np.ascontiguousarray(values[:, :, :3])
    # The decoder spreads 1, 2 and 4 bits over 0..255.
    return np.asarray(values // (255 // (2**bits - 1)) if bits < 8 else values)


def _as_grey(data: bytes) -> tuple[bytes, int]:
    """A palette PNG as the grey PNG of its indices, and the bits a sample.

    OpenCV gives the palette's colours, never the indices. The pixel data are the same in both
    kinds; only the header says which it is.
    """
    if data[:8] != _SIGNATURE or len(data) < 33:
        return data, 8
    width, height, bits, kind = struct.unpack(">IIBB", data[16:26])
    if kind not in (_GREY, _PALETTE):
        return data, 8
    if kind == _GREY:
        return data, bits
    header = b"IHDR" + struct.pack(">IIBB", width, height, bits, _GREY) + data[26:29]
    parts = [_SIGNATURE, struct.pack(">I", 13), header, struct.pack(">I", zlib.crc32(header))]
    position = 33
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] in (b"IDAT", b"IEND"):
            parts.append(data[position:end])
        position = end
    return b"".join(parts), bits


def _unreadable(path: str | Path, reason: str) -> SourceError:
    return SourceError(
        f"cannot read label file {path}", facts={"found": reason}, fix="copy or convert it again"
    )
