"""Kernels of the rules that round as Pillow does: along rows to bytes, then down the columns.

The frame's rows are resampled along x once, into a picture of bytes; rows of the network's input
are mixed from those, rounded again, and normalised on the way into their planes.

Sums are in float32; where one lies so near a half that its own rounding could decide, it is taken
again in float64, in which bytes times Pillow's weights (multiples of 2 ** -22) are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.cpu.kernels.compiled import carray, njit
from segedge.cpu.kernels.resample import (
    copy_row,
    fill_border,
    mix_columns,
    mix_rows,
)
from segedge.cpu.kernels.simd import pointer_f32, take_ticket
from segedge.cpu.kernels.tables import (
    INNER,
    KERNEL,
    Between,
    Bytes,
    Floats,
    Ints,
    Longs,
    Rows,
    Taps,
    Tensor,
)

_ROWS_A_UNIT = 8
_BLOCK = 64
"""Values that are looked at together for doubtful ones."""
_DOUBT = np.float32(5e-4)
"""Distance from a half within which float32 does not tell: sums of some 30 taps of 0..255."""


@njit(**INNER)
def level_of(value: float) -> Any:
    """The whole level nearest to a value, 0..255; halves go up."""
    return np.uint8(np.int32(min(max(value + 0.5, 0.0), 255.0)))


@njit(**INNER)
def is_doubtful(value: float) -> bool:
    """Whether rounding could have brought a value to the other side of a half."""
    up = value + np.float32(0.5)
    return bool(abs(up - np.rint(up)) < _DOUBT)


@njit(**{**INNER, "fastmath": True})
def nearest_half(values: Floats) -> Any:
    """How near the nearest of some values is to a half; a vectorised minimum."""
    least = np.float32(1.0)
    for i in range(values.size):
        up = values[i] + np.float32(0.5)
        least = min(least, abs(up - np.rint(up)))
    return least


@njit(**INNER)
def to_levels(values: Floats, levels: Bytes) -> None:
    """Whole levels, but for the doubtful."""
    for i in range(levels.size):
        levels[i] = np.uint8(np.int32(min(max(values[i] + np.float32(0.5), 0.0), 255.0)))


@njit(**INNER)
def settle_along(
    values: Floats, levels: Bytes, mixed: Floats, first: Ints, weights: Floats
) -> None:
    """Doubtful levels of a row, from its pixels (three values each) and weights."""
    count, taps = weights.shape
    for start in range(0, values.size, _BLOCK):
        end = min(start + _BLOCK, values.size)
        if nearest_half(values[start:end]) >= _DOUBT:
            continue
        for i in range(start, end):
            if is_doubtful(values[i]):
                c, x = i // count, i % count
                total = 0.0
                for k in range(taps):
                    total += np.float64(mixed[3 * (first[x] + k) + c]) * np.float64(weights[x, k])
                levels[i] = level_of(total)


@njit(**INNER)
def settle_down(values: Floats, levels: Bytes, row: int, weights: Floats) -> None:
    """Doubtful values of a row that is mixed from rows of levels: they become whole ones."""
    for start in range(0, values.size, _BLOCK):
        end = min(start + _BLOCK, values.size)
        if nearest_half(values[start:end]) >= _DOUBT:
            continue
        for i in range(start, end):
            if is_doubtful(values[i]):
                total = 0.0
                for k in range(weights.size):
                    total += np.float64(levels[row + k, i]) * np.float64(weights[k])
                values[i] = np.float32(level_of(total))


@njit(**KERNEL)
def resample_rows(
    ticket: Longs, frame: Rows, columns: Taps, between: Between, mixed: Floats, planes: Floats
) -> None:
    """Fill the picture between, a few rows at a time until no ticket is left; scratch as below."""
    levels, first, weights = between.levels, columns.first, columns.weights
    identity, one = between.identity, between.one
    count, taps = weights.shape
    low, high = np.int64(3 * first[0]), np.int64(3 * (first[-1] + taps))
    flat = carray(pointer_f32(planes.ctypes.data), (planes.size,))
    while True:
        unit = take_ticket(ticket) * _ROWS_A_UNIT
        if unit >= levels.shape[0]:
            return
        for row in range(unit, min(unit + _ROWS_A_UNIT, levels.shape[0])):
            pixels = frame[0] + (between.first + row) * frame[1] + low
            mix_rows(pixels, frame[1], one, mixed[low:high])
            mix_columns(mixed, first, weights, identity, planes.ctypes.data, 4 * count)
            to_levels(flat, levels[row])
            settle_along(flat, levels[row], mixed, first, weights)


@njit(**INNER)
def normalise_row(values: Floats, count: int, affine: Floats, out: int, plane: int) -> None:
    """Rounded values times a factor plus a bias, one plane a channel; as `mix_columns`."""
    for c in range(3):
        factor, bias = affine[c], affine[3 + c]
        line = carray(pointer_f32(out + c * plane), (count,))
        for x in range(count):
            level = min(max(values[c * count + x] + np.float32(0.5), 0.0), 255.0)
            line[x] = np.float32(np.int32(level)) * factor + bias


@njit(**KERNEL)
def mix_levels(
    ticket: Longs,
    between: Between,
    rows: Taps,
    tensor: Tensor,
    target: int,
    mixed: Floats,
    planes: Floats,
) -> None:
    """Fill the tensor from the picture between, as `segedge.cpu.kernels.resample.resample`.

    Scratch of this thread: ``mixed``, one row of the picture between or of the frame, whichever is
    longer, and a value more; ``planes``, 3 x the columns.
    """
    height, width, channels_last = tensor.height, tensor.width, tensor.channels_last
    top, left, content = tensor.top, tensor.left, tensor.content
    affine, borders = tensor.affine, tensor.borders
    levels, row_first, row_weights = between.levels, rows.first, rows.weights
    plane, stride = 4 * height * width, levels.shape[1]
    row_bytes = 12 * width if channels_last else 4 * width
    count = stride // 3
    through_scratch = channels_last or content < count
    step = 4 * count if through_scratch else plane
    while True:
        unit = take_ticket(ticket) * _ROWS_A_UNIT
        if unit >= height:
            return
        for y in range(unit, min(unit + _ROWS_A_UNIT, height)):
            row = target + y * row_bytes
            source = y - top
            has_content = 0 <= source < row_first.size
            fill_border(
                row, has_content, left, left + content, width, channels_last, plane, borders
            )
            if not has_content:
                continue
            out = planes.ctypes.data if through_scratch else row + 4 * left
            first_plane = out + 2 * step if tensor.reverse else out
            pixels = levels.ctypes.data + (row_first[source] - between.first) * stride
            mix_rows(pixels, stride, row_weights[source], mixed[:stride])
            below = row_first[source] - between.first
            settle_down(mixed[:stride], levels, below, row_weights[source])
            normalise_row(mixed, count, affine, first_plane, -step if tensor.reverse else step)
            if through_scratch:
                copy_row(planes, content, row, left, channels_last, plane)
