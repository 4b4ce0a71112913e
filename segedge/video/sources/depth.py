"""Images of more than 8 bits a sample, to 8: by what the file says of its range, or not at all."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_FULL = 65535.0
_DARKEST_BITS = 14
"""16-bit samples that use no more bits hold 10, 12 or 14 of a sensor: not 16, however dark."""
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_SIZES = {1: 1, 3: 2, 4: 4, 11: 4, 12: 8}
"""Bytes of a TIFF value by its type (TIFF 6.0, section 2)."""
_FORMATS = {1: "B", 3: "H", 4: "I", 11: "f", 12: "d"}
_BITS, _LOWEST, _HIGHEST, _S_LOWEST, _S_HIGHEST = 258, 280, 281, 340, 341
"""TIFF tags: BitsPerSample, MinSampleValue, MaxSampleValue, SMinSampleValue, SMaxSampleValue."""


class RangeUnknown(Exception):  # noqa: N818 - a reason, told with the file's name by who reads it
    """Why samples cannot be brought to 8 bits."""


@dataclass(frozen=True)
class Samples:
    """What a file says of the range of its samples."""

    low: float = 0.0
    high: float | None = None
    """The value of white; None: not said."""


def deep_samples(data: bytes) -> Samples | None:
    """Of a whole file; None where samples have 8 bits, and all of them are used."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _of_png(data) if data[24:25] == b"\x10" else None
    if data[:2] in (b"P2", b"P3", b"P5", b"P6"):
        return _of_pnm(data)
    return _of_tiff(data) if data[:4] in _TIFF else None


def to_8_bits(values: NDArray[Any], samples: Samples) -> NDArray[np.uint8]:
    """H x W x 3 uint8 BGR of what OpenCV gives with all its bits.

    Raises:
        RangeUnknown: Nothing says which value is white.
    """
    if values.ndim == 2:
        values = np.asarray(cv2.merge([values] * 3))
    low, high = float(values.min()), float(values.max())
    if samples.high is not None and samples.low <= low and high <= samples.high:
        if (samples.low, samples.high) != (0.0, _FULL):
            scale = 255.0 / (samples.high - samples.low)
            levels = (values.astype(np.float32) - samples.low) * scale
            return (levels + 0.5).astype(np.uint8)
    elif values.dtype == np.uint16 and 0 < high < 1 << _DARKEST_BITS:
        raise RangeUnknown(
            f"16-bit samples up to {high:g}: {int(high).bit_length()} bits are used, "
            "and the file does not say which value is white"
        )
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    if values.dtype == np.uint8:
        return values
    raise RangeUnknown(
        f"{values.dtype} samples {low:g}..{high:g}, and the file does not say which value is white"
    )


def _of_png(data: bytes) -> Samples:
    """``sBIT`` tells how many bits are significant (PNG, 11.3.2.4)."""
    place = data.find(b"sBIT", 33, 4096)
    bits = data[place + 4] if place > 0 else 16
    return Samples(0.0, 2.0**bits - 1 if 8 < bits < 16 else None)


def _of_pnm(data: bytes) -> Samples | None:
    """The third number is the value of white."""
    text = re.sub(rb"#[^\n]*\n", b" ", data[:2048])
    match = re.match(rb"P[2356]\s+\d+\s+\d+\s+(\d+)\s", text)
    highest = int(match[1]) if match else 255
    return None if highest == 255 else Samples(0.0, float(highest))


def _of_tiff(data: bytes) -> Samples | None:
    """Of the first directory; None for 8 bits, and where it cannot be read."""
    try:
        tags = _tiff_tags(data, _TIFF[data[:4]])
    except (struct.error, KeyError):
        return None
    bits = int(tags.get(_BITS, 1))
    if bits <= 8:
        return None
    low = tags.get(_S_LOWEST, tags.get(_LOWEST, 0.0))
    high = tags.get(_S_HIGHEST, tags.get(_HIGHEST))
    if high is None and bits < 16:
        high = 2.0**bits - 1
    return Samples(low, high if high is not None and high > low else None)


def _tiff_tags(data: bytes, order: str) -> dict[int, float]:
    """The first value of each tag that holds numbers."""
    (start,) = struct.unpack(f"{order}I", data[4:8])
    (count,) = struct.unpack(f"{order}H", data[start : start + 2])
    tags: dict[int, float] = {}
    for number in range(count):
        place = start + 2 + 12 * number
        tag, kind, values = struct.unpack(f"{order}HHI", data[place : place + 8])
        if kind not in _FORMATS:
            continue
        size = _SIZES[kind]
        if values * size > 4:
            (where,) = struct.unpack(f"{order}I", data[place + 8 : place + 12])
        else:
            where = place + 8
        (value,) = struct.unpack(f"{order}{_FORMATS[kind]}", data[where : where + size])
        tags[tag] = float(value)
    return tags
