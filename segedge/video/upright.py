"""How a decoded picture is meant to be shown: turned, mirrored, with pixels that are not square."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Turn = Callable[[NDArray[np.uint8]], Any]

_SQUARE = Fraction(1)
_NEARLY_SQUARE, _ODDEST = 0.01, 4.0
"""A pixel shape nearer to a square than this is one; one further away than this is an error."""

_TURNS: dict[tuple[int, int, int, int], Turn | None] = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): lambda image: cv2.flip(image, 1),
    (1, 0, 0, -1): lambda image: cv2.flip(image, 0),
    (-1, 0, 0, -1): lambda image: cv2.rotate(image, cv2.ROTATE_180),
    (0, 1, -1, 0): lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    (0, -1, 1, 0): lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
    (0, 1, 1, 0): cv2.transpose,
    (0, -1, -1, 0): lambda image: cv2.flip(cv2.transpose(image), -1),
}
"""Signs of a, b, c, d of a display matrix, where (x, y) goes to (a x + c y, b x + d y), to what
brings a picture there (ISO/IEC 14496-12, 8.5.2). Other matrices are not followed."""

Signs = tuple[int, int, int, int]
PLAIN: Signs = (1, 0, 0, 1)


def signs_of(picture: Any) -> Signs:
    """What its display matrix does, as a key of `turned`."""
    found = picture.side_data.get("DISPLAYMATRIX")
    if found is None:
        return PLAIN
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(found)[:36])
    largest = max(map(abs, (a, b, c, d)), default=0)
    signs = tuple((2 * v > largest) - (2 * v < -largest) for v in (a, b, c, d))
    return signs if len(signs) == 4 and signs in _TURNS else PLAIN


def turned(image: NDArray[np.uint8], signs: Signs) -> NDArray[np.uint8]:
    """H x W x 3 as it is shown."""
    turn = _TURNS[signs]
    return image if turn is None else np.ascontiguousarray(turn(image), np.uint8)


def pixel_aspect(stream: Any) -> Fraction:
    """Width of a pixel by its height, as the container says, else the codec; 1 for nonsense."""
    said = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not said or abs(said - 1) < _NEARLY_SQUARE or not 1 / _ODDEST <= said <= _ODDEST:
        return _SQUARE
    return Fraction(said)


def oblong_size(height: int, width: int, aspect: Fraction) -> tuple[int, int]:
    """(height, width) of what `square_size` made of even sides; even sides, as 4:2:0 needs them."""
    if aspect > 1:
        return height + height % 2, 2 * round(width / aspect / 2)
    if aspect < 1:
        return 2 * round(height * aspect / 2), width + width % 2
    return height + height % 2, width + width % 2


def square_size(height: int, width: int, aspect: Fraction) -> tuple[int, int]:
    """(height, width) with square pixels: the shorter side of a pixel is kept, nothing is lost."""
    if aspect > 1:
        return height, 2 * round(width * aspect / 2)
    if aspect < 1:
        return 2 * round(height / aspect / 2), width
    return height, width
