"""PNG files of class labels: raw indices, or indices with a palette.

OpenCV cannot write palettes, and filters labels as if they were photographs. Rows as differences
to the row above (filter "up"), run-length matched, take 5 ms for 1024 x 2048 labels of a street
scene and 9 kB, where ``cv2.imencode`` takes 13 ms and 22 kB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb
from segedge.errors import UsageError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _PALETTE = 0, 3
_FILTER_UP = 2
_LEVEL = 1
"""With run-length matching the levels differ by nothing but time."""


def encode_labels_png(labels: NDArray[Any], *, palette_rgb: Sequence[Rgb] | None = None) -> bytes:
    """A PNG file of a label map, H x W uint8 or uint16.

    Colours in label order make a palette PNG (viewers show colours, readers that ask for indices
    get the labels), of at most 256 classes; labels beyond it are black. None makes a grey PNG whose
    values are the labels, with 16 bits for uint16.
    """
    if palette_rgb is not None and (labels.dtype != np.uint8 or len(palette_rgb) > 256):
        raise UsageError(
            "a palette PNG holds at most 256 classes",
            facts={"found": f"{len(palette_rgb)} classes, {labels.dtype} labels"},
            fix="--masks labels writes 16-bit indices",
        )
    height, width = labels.shape
    color_type = _GRAY if palette_rgb is None else _PALETTE
    header = struct.pack(">IIBBBBB", width, height, labels.dtype.itemsize * 8, color_type, 0, 0, 0)
    colors = b"" if palette_rgb is None else _chunk(b"PLTE", _palette_bytes(palette_rgb))
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            colors,
            _chunk(b"IDAT", _compress(_filtered_rows(labels))),
            _chunk(b"IEND", b""),
        )
    )


def _palette_bytes(palette_rgb: Sequence[Rgb]) -> bytes:
    """All 256 entries, so that the ignore label 255 is a colour too: black."""
    return bytes(value for color in palette_rgb for value in color).ljust(256 * 3, b"\0")


def _filtered_rows(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Each row as one filter byte and its byte differences (modulo 256) to the row above."""
    big_endian = np.ascontiguousarray(labels, dtype=labels.dtype.newbyteorder(">"))
    samples = big_endian.view(np.uint8).reshape(labels.shape[0], -1)
    rows = np.empty((samples.shape[0], samples.shape[1] + 1), np.uint8)
    rows[:, 0] = _FILTER_UP
    rows[0, 1:] = samples[0]
    np.subtract(samples[1:], samples[:-1], out=rows[1:, 1:])
    return rows


def _compress(rows: NDArray[np.uint8]) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return packer.compress(rows.data) + packer.flush()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
