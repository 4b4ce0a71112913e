"""Kernels that read a frame once and write the network's input tensor.

A row of the tensor is made in three steps: the frame's rows are mixed into a float32 row (over
contiguous bytes, so it vectorises), that row is mixed along x, and the channels are normalised on
the way into their planes. Nothing else is stored.
"""

from __future__ import annotations

import numpy as np

from segedge.cpu.kernels.compiled import carray, njit
from segedge.cpu.kernels.simd import (
    halve_block,
    mix_taps,
    mix_two_taps,
    pointer_f32,
    pointer_u8,
    take_ticket,
)
from segedge.cpu.kernels.tables import (
    BLOCK,
    FIRST,
    INNER,
    KERNEL,
    LANES,
    Floats,
    Ints,
    Longs,
    Rows,
    Taps,
    Tensor,
)

_ROWS_A_UNIT = 8


@njit(**INNER)
def mix_rows(frame: int, stride: int, weights: Floats, mixed: Floats) -> None:
    """Weighted sum of pieces of frame rows, the first at an address, a weight a row."""
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


@njit(**INNER)
def mix_columns(
    mixed: Floats, first: Ints, weights: Floats, affine: Floats, out: int, plane: int
) -> None:
    """Weighted sums along a row of pixels, times a factor plus a bias, one plane a channel.

    ``mixed`` holds three values a pixel and one more; ``out`` addresses the first channel's
    results (at least `LANES`), the next channel's lie ``plane`` bytes from there, maybe before.
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


@njit(**INNER)
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


@njit(**INNER)
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


@njit(**INNER)
def fill_border(row: int, has_content: bool, left: int, right: int, width: int,
                channels_last: bool, plane: int, borders: Floats) -> None:  # fmt: skip
    """The border's part of a tensor row: around the content, or all of it."""
    if not has_content:
        fill_row(row, width, channels_last, plane, FIRST, width, borders)
    elif left > 0 or right < width:
        fill_row(row, width, channels_last, plane, FIRST, left, borders)
        fill_row(row, width, channels_last, plane, right, width, borders)


@njit(**INNER)
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


@njit(**KERNEL)
def resample(
    ticket: Longs,
    frame: Rows,
    rows: Taps,
    columns: Taps,
    tensor: Tensor,
    target: int,
    mixed: Floats,
    planes: Floats,
) -> None:
    """Fill the tensor, a few rows at a time until no ticket is left.

    ``target`` addresses it. Scratch of this thread: ``mixed``, one frame row and a value more, and
    ``planes``, 3 x the columns (`LANES`, if there are fewer).
    """
    height, width, channels_last = tensor.height, tensor.width, tensor.channels_last
    top, left, content, reverse = tensor.top, tensor.left, tensor.content, tensor.reverse
    affine, borders, halve = tensor.affine, tensor.borders, tensor.halve
    row_first, row_weights = rows.first, rows.weights
    column_first, column_weights = columns.first, columns.weights
    plane = 4 * height * width
    row_bytes = 12 * width if channels_last else 4 * width
    count, taps = column_weights.shape
    low = np.int64(3 * column_first[0])
    high = np.int64(3 * (column_first[-1] + taps))
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
            first_plane = out + 2 * step if reverse else out
            pixels = frame[0] + row_first[source] * frame[1] + low
            apart = -step if reverse else step
            if halve:
                halve_rows(pixels, pixels + frame[1], affine, first_plane, apart, count)
            else:
                mix_rows(pixels, frame[1], row_weights[source], mixed[low:high])
                mix_columns(mixed, column_first, column_weights, affine, first_plane, apart)
            if through_scratch:
                copy_row(planes, content, row, left, channels_last, plane)
