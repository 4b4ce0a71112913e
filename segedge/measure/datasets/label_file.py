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
from segedge.machine.files import reason_of
from segedge.video.sources.images import quiet_opencv

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3


def read_label_file(path: str | Path, *, colors: bool = False) -> NDArray[Any]:
    """The values of a label file.

    H x W uint8 or uint16 (of grey and palette PNGs the indices), or H x W x 3 uint8 BGR of colours.
    With ``colors`` a palette PNG gives those of its palette.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, reason_of(error)) from error
    indices, bits = (data, 8) if colors else _as_grey(data)
    with quiet_opencv():
        try:
            values: Any = cv2.imdecode(np.frombuffer(indices, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:  # an empty file, or a size beyond OpenCV's limits
            values = None
    if values is None:
        raise _unreadable(path, f"{len(data)} bytes that are no readable image")
    if values.ndim == 3:
        return _as_colors(np.ascontiguousarray(values[:, :, :3]), path)
    # The decoder spreads 1, 2 and 4 bits over 0..255.
    return _as_labels(values // (255 // (2**bits - 1)) if bits < 8 else values, path)


def _as_labels(values: NDArray[Any], path: str | Path) -> NDArray[Any]:
    """Whole numbers, however they are stored: TIFF holds them as floats and with a sign, too."""
    if values.dtype in (np.uint8, np.uint16):
        return values
    low, high = values.min(), values.max()
    whole = values.astype(np.uint16) if low >= 0 and high < 1 << 16 else None
    if whole is None or not np.array_equal(whole, values):
        raise _unreadable(
            path,
            f"{values.dtype} values {low:g}..{high:g}; labels are whole numbers 0..65535",
            "store what does not count as 255",
        )
    return whole


def _as_colors(bgr: NDArray[Any], path: str | Path) -> NDArray[Any]:
    """8 bits a channel; equal channels of 16 bits are labels above 255."""
    if bgr.dtype == np.uint8:
        return bgr
    if (bgr == bgr[:, :, :1]).all():
        return _as_labels(np.ascontiguousarray(bgr[:, :, 0]), path)
    if bgr.dtype != np.uint16 or (bgr % 257).any():
        raise _unreadable(
            path, f"colours of {bgr.dtype.itemsize * 8} bits a channel", "store them in 8 bits"
        )
    return (bgr // 257).astype(np.uint8)


def _as_grey(data: bytes) -> tuple[bytes, int]:
    """A grey or palette PNG as the grey PNG of its samples alone, and the bits a sample.

    OpenCV gives the palette's colours, never the indices, and makes colours of grey with a
    transparent level. The pixel data are the same; only the header and small chunks say which.
    """
    if data[:8] != _SIGNATURE or len(data) < 33:
        return data, 8
    width, height, bits, kind = struct.unpack(">IIBB", data[16:26])
    if kind not in (_GREY, _PALETTE):
        return data, 8
    if kind == _GREY and b"tRNS" not in data[33:512]:
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


def _unreadable(
    path: str | Path, reason: str, fix: str = "copy or convert it again"
) -> SourceError:
    return SourceError(f"cannot read label file {path}", facts={"found": reason}, fix=fix)
