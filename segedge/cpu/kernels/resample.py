"""Kernels that read a frame once and write the network's input tensor.

A row of the tensor is made in three steps: the frame's rows are mixed into a float32 row (over
contiguous bytes, so it vectorises), that row is mixed along x, and the channels are normalised on
the way into their planes. Nothing else is stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from segedge.cpu.kernels.simd import (
    BLOCK,
    LANES,
    halve_block,
    mix_taps,
    mix_two_taps,
    pointer_f32,
    pointer_u8,
    take_ticket,
)

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_ROWS_A_UNIT = 8

_INNER: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
}
_KERNEL: dict[str, Any] = {**_INNER, "cache": True}


@njit(**_INNER)
def mix_rows(frame: int, stride: int, weights: Floats, mixed: Floats) -> None:
    """Weighted sum of pieces of frame rows, as float32.

    Args:
        frame: Address of the piece in the first of the rows.
        stride: Bytes from one row to the next.
        weights: One weight a row.
        mixed: Result, one value a byte.
    """
    count, size = weights.size, mixed.size
    upper = carray(pointer_u8(frame), (size,))
    lower = carray(pointer_u8(frame + (count - 1) * stride), (size,))
    w0, w1 = weights[0], weights[count - 1]
    if count == 1:
        for i in range(size):
            mixed[i] = np.float32(upper[i])
        return
    for i in range(size):
        mixed[i] = np.float32(upper[i]) * w0 + np.float32(lower[i]) * w1
    for k in range(1, count - 1):
        row = carray(pointer_u8(frame + k * stride), (size,))
        w = weights[k]
        if w != 0.0:
            for i in range(size):
                mixed[i] += np.float32(row[i]) * w


@njit(**_INNER)
def mix_columns(
    mixed: Floats, first: Ints, weights: Floats, affine: Floats, out: int, plane: int
) -> None:
    """Weighted sums along a row of pixels, times a factor plus a bias, one plane a channel.

    Args:
        mixed: The row, three values a pixel and one more.
        first: First pixel of each window.
        weights: Output pixels (at least `LANES`) x window width.
        affine: Three factors, three biases.
        out: Address of the results of the row's first channel.
        plane: Bytes from there to those of the next channel; may be negative.
    """
    count, taps = weights.shape
    row, factors = mixed.ctypes.data, affine.ctypes.data
    firsts, shares = first.ctypes.data, weights.ctypes.data
    for group in range(0, count, LANES):
        x = min(group, count - LANES)  # the last group may overlap the one before
        if taps == 2:
            mix_two_taps(row, firsts + 4 * x, shares + 8 * x, taps, factors, out + 4 * x, plane)
        else:
            mix_taps(row, firsts + 4 * x, shares + 4 * taps * x, taps, factors, out + 4 * x, plane)


@njit(**_INNER)
def halve_rows(upper: int, lower: int, affine: Floats, out: int, plane: int, width: int) -> None:
    """Means of 2x2 pixels, times a factor plus a bias, for at least `BLOCK` results.

    ``upper`` and ``lower`` are addresses of frame rows; the rest as in `mix_columns`.
    """
    factors = affine.ctypes.data
    for block in range(0, width, BLOCK):
        x = min(block, width - BLOCK)
        place = out + 4 * x
        halve_block(
            upper + 6 * x, lower + 6 * x, place, place + plane, place + 2 * plane, factors
        )  # fmt: skip


@njit(**_INNER)
def fill_row(row: int, width: int, channels_last: bool, plane: int, start: int, end: int,
             borders: Floats) -> None:  # fmt: skip
    """Pixels ``start..end`` of a tensor row take the border's colour."""
    for c in range(3):
        if channels_last:
            pixels = carray(pointer_f32(row), (3 * width,))
            for x in range(start, end):
                pixels[3 * x + c] = borders[c]
        else:
            pixels = carray(pointer_f32(row + c * plane), (width,))
            for x in range(start, end):
                pixels[x] = borders[c]


@njit(**_INNER)
def copy_row(planes: Floats, count: int, row: int, start: int, channels_last: bool,
             plane: int) -> None:  # fmt: skip
    """The first ``count`` pixels of three planes into a tensor row, from pixel ``start`` on."""
    if channels_last:
        pixels = carray(pointer_f32(row + 12 * start), (3 * count,))
        for x in range(count):
            pixels[3 * x] = planes[0, x]
            pixels[3 * x + 1] = planes[1, x]
            pixels[3 * x + 2] = planes[2, x]
        return
    for c in range(3):
        line = carray(pointer_f32(row + c * plane + 4 * start), (count,))
        for x in range(count):
            line[x] = planes[c, x]


@njit(**_KERNEL)
def resample(
    ticket: NDArray[np.int64],
    frame: int,
    frame_stride: int,
    row_first: Ints,
    row_weights: Floats,
    column_first: Ints,
    column_weights: Floats,
    halve: bool,
    affine: Floats,
    borders: Floats,
    reverse: bool,
    tensor: int,
    height: int,
    width: int,
    top: int,
    left: int,
    channels_last: bool,
    mixed: Floats,
    planes: Floats,
    content: int,
) -> None:
    """Fill the tensor, a few rows at a time until no ticket is left.

    Args:
        ticket: Shared counter, see `simd.take_ticket`.
        frame: Address of the frame.
        frame_stride: Bytes from one frame row to the next.
        row_first: First frame row of each content row.
        row_weights: Content rows x taps.
        column_first: First frame column of each content column.
        column_weights: Content columns (or `LANES`, if there are fewer) x taps.
        halve: Whether this is the exact mean of 2x2 pixels.
        affine: Three factors and three biases, in the frame's channel order.
        borders: Normalised border value of each tensor channel.
        reverse: Whether the tensor's channels run against the frame's.
        tensor: Address of a float32 tensor, 3 x height x width or height x width x 3.
        height: Rows of the tensor.
        width: Columns of the tensor.
        top: First row with content.
        left: First column with content.
        channels_last: Layout of the tensor.
        mixed: Scratch of this thread, one frame row and a value more.
        planes: Scratch of this thread, 3 x the length of ``column_first``.
        content: Columns with content.
    """
    plane = 4 * height * width
    row_bytes = 12 * width if channels_last else 4 * width
    columns, taps = column_weights.shape
    low = np.int64(3 * column_first[0])
    high = np.int64(3 * (column_first[-1] + taps))
    through_scratch = channels_last or content < columns
    step = 4 * columns if through_scratch else plane
    while True:
        unit = take_ticket(ticket) * _ROWS_A_UNIT
        if unit >= height:
            return
        for y in range(unit, min(unit + _ROWS_A_UNIT, height)):
            row = tensor + y * row_bytes
            source = y - top
            if source < 0 or source >= row_first.size:
                fill_row(row, width, channels_last, plane, 0, width, borders)
                continue
            fill_row(row, width, channels_last, plane, 0, left, borders)
            fill_row(row, width, channels_last, plane, left + content, width, borders)
            out = planes.ctypes.data if through_scratch else row + 4 * left
            first_plane = out + 2 * step if reverse else out
            pixels = frame + row_first[source] * frame_stride
            if halve:
                corner = pixels + low
                halve_rows(
                    corner, corner + frame_stride, affine, first_plane,
                    -step if reverse else step, columns,
                )  # fmt: skip
            else:
                mix_rows(pixels + low, frame_stride, row_weights[source], mixed[low:high])
                mix_columns(
                    mixed, column_first, column_weights, affine, first_plane,
                    -step if reverse else step,
                )  # fmt: skip
            if through_scratch:
                copy_row(planes, content, row, left, channels_last, plane)
