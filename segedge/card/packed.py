"""Arrays as text in a file's metadata: compressed, as base64, read with a bound on their size."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import CardError


def packed(values: NDArray[Any]) -> str:
    """The bytes of an array, in its own type and order."""
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii")


def unpacked(text: str, kind: np.dtype[Any], count: int, *, what: str) -> NDArray[Any]:
    """Exactly so many values; no more is unpacked, whatever the text says.

    CardError: it is damaged, or holds another number. ``what`` has the values, for the message.
    """
    wanted = count * kind.itemsize
    try:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(base64.b64decode(text, validate=True), wanted + 1)
    except (binascii.Error, zlib.error) as error:
        raise CardError(f"values of {what} are damaged", facts={"says": str(error)}) from error
    if len(data) != wanted:
        raise CardError(f"values of {what} are damaged", facts={"expected": f"{wanted} bytes"})
    return np.frombuffer(data, kind)
