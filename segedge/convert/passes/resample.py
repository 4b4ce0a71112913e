"""What a Resize of one axis reads and how it weighs it, as ONNX defines it, in float64."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["linear", "cubic"]
Floats = NDArray[np.float64]


def resize_matrix(
    length: int,
    result: int,
    scale: float,
    *,
    mode: Mode,
    coordinates: str,
    antialias: bool = False,
    exclude_outside: bool = False,
    cubic_a: float = -0.75,
) -> Floats:
    """Output places x input places; KeyError for coordinates that are no map of the whole axis."""
    position = _POSITIONS[coordinates](np.arange(result, dtype=np.float64), length, result, scale)
    narrowed = min(scale, 1.0) if antialias else 1.0
    reach = int(np.ceil((1 if mode == "linear" else 2) / narrowed)) + 1
    taps = np.floor(position).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    away = np.abs(taps - position[:, None]) * narrowed
    weights = np.maximum(0.0, 1.0 - away) if mode == "linear" else _cubic(away, cubic_a)
    if antialias:
        weights /= weights.sum(axis=1, keepdims=True)
    if exclude_outside:
        weights = np.where((taps >= 0) & (taps < length), weights, 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((result, length))
    np.add.at(matrix, (np.arange(result)[:, None], np.clip(taps, 0, length - 1)), weights)
    return matrix


def _cubic(away: Floats, a: float) -> Floats:
    """Keys' kernel."""
    near = ((a + 2) * away - (a + 3)) * away**2 + 1
    far = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
    return np.where(away <= 1, near, np.where(away < 2, far, 0.0))


def _half_pixel(place: Floats, length: int, result: int, scale: float) -> Floats:
    return (place + 0.5) / scale - 0.5


def _align_corners(place: Floats, length: int, result: int, scale: float) -> Floats:
    return place * ((length - 1) / max(result - 1, 1))


def _symmetric(place: Floats, length: int, result: int, scale: float) -> Floats:
    offset = length / 2 * (1 - result / (scale * length))
    return offset + _half_pixel(place, length, result, scale)


_POSITIONS = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": lambda place, length, result, scale: (
        _half_pixel(place, length, result, scale) if result > 1 else np.zeros_like(place)
    ),
    "align_corners": _align_corners,
    "asymmetric": lambda place, length, result, scale: place / scale,
    "half_pixel_symmetric": _symmetric,
}
