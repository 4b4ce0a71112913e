"""What one frame is on its way to the browser: its picture, its label map, its numbers.

The look (opacity, classes, original or mask) is each viewer's own, so no overlay is sent: the page
blends. A frame is therefore encoded once for any number of viewers.

A message: length of the header (uint32, little endian), the header (JSON), the JPEG file, the label
map: differences to the row above (modulo the integer's size, little endian), deflated (zlib).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SIZE = (720, 1280)
"""Rows and columns of what is shown at most: larger frames are sent smaller."""

JPEG_QUALITY = 80
_LEVEL = 1
"""With run-length matching the levels differ by nothing but time."""


@dataclass(frozen=True)
class Shown:
    """A frame at the size in which it is shown; its arrays are its own."""

    picture: NDArray[np.uint8]
    """h x w x 3 BGR."""
    labels: NDArray[Any]
    """h x w, uint8 or uint16."""
    facts: Mapping[str, Any]
    """What else the header tells: index, latency, size."""


def shown(image_hwc: NDArray[np.uint8], labels: NDArray[Any], facts: Mapping[str, Any]) -> Shown:
    """Copies of picture and labels, made smaller where they exceed `MAX_SIZE`."""
    import cv2

    height, width = labels.shape
    if image_hwc.ndim == 2 and image_hwc.shape[0] * 2 == height * 3:
        image_hwc = cv2.cvtColor(image_hwc, cv2.COLOR_YUV2BGR_NV12)
    scale = min(1.0, MAX_SIZE[0] / height, MAX_SIZE[1] / width)
    if scale == 1.0:
        return Shown(image_hwc.copy(), labels.copy(), facts)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smoothly = cv2.INTER_AREA if scale <= 0.5 else cv2.INTER_LINEAR
    return Shown(
        cv2.resize(image_hwc, size, interpolation=smoothly),
        cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST),
        facts,
    )


def encode(shown: Shown, *, source: int, class_count: int) -> bytes:
    """The message of a frame; shares are counted in the labels as they are shown."""
    import cv2

    jpeg = cv2.imencode(".jpg", shown.picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    counts = np.bincount(shown.labels.ravel(), minlength=class_count)[:class_count]
    header = {
        **shown.facts,
        "source": source,
        "rows": shown.labels.shape[0],
        "columns": shown.labels.shape[1],
        "bytes_per_label": shown.labels.dtype.itemsize,
        "jpeg_bytes": jpeg.size,
        "shares": [round(count / shown.labels.size, 5) for count in counts.tolist()],
    }
    head = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((struct.pack("<I", len(head)), head, jpeg.tobytes(), _packed(shown.labels)))


def decode(message: bytes) -> tuple[dict[str, Any], bytes, NDArray[Any]]:
    """Header, JPEG file and labels of a message: what the page does, for Python."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    start = 4 + length
    jpeg = message[start : start + header["jpeg_bytes"]]
    kind = np.dtype(f"<u{header['bytes_per_label']}")
    rows = np.frombuffer(zlib.decompress(message[start + len(jpeg) :]), kind)
    rows = rows.reshape(header["rows"], header["columns"])
    return header, jpeg, np.add.accumulate(rows, axis=0, dtype=kind)


def _packed(labels: NDArray[Any]) -> bytes:
    rows = np.empty(labels.shape, labels.dtype.newbyteorder("<"))
    rows[0] = labels[0]
    np.subtract(labels[1:], labels[:-1], out=rows[1:])
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return packer.compress(rows.data) + packer.flush()
