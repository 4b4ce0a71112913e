"""Kernels that make pictures of a frame and its opacity, labels or doubt, in bands of rows.

Opacity is 0 or 255 in long runs: those are copied, and only edges are mixed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.render import blend_run
from segedge.cpu.kernels.rows import byte_row, float_row
from segedge.cpu.kernels.simd import take_ticket
from segedge.cpu.kernels.tables import (
    BLOCK,
    FAST,
    FIRST,
    INNER,
    KERNEL,
    TINT_BYTES,
    Bytes,
    Flags,
    Floats,
    Ints,
    Longs,
    Rows,
    Shorts,
)

_ROWS = 16


@njit(**INNER)
def _run_end(alpha: Bytes, start: int) -> int:
    """End of the run of equal opacities that begins at ``start``."""
    value, x = alpha[start], start + 1
    while x + BLOCK <= alpha.size:
        different = np.uint8(0)
        for i in range(BLOCK):
            different |= alpha[x + i] ^ value
        if different != 0:
            break
        x += BLOCK
    while x < alpha.size and alpha[x] == value:
        x += 1
    return x


@njit(**INNER)
def _mix(front: int, behind: int, alpha: int) -> Any:
    total = np.uint32(front) * np.uint32(alpha) + np.uint32(behind) * np.uint32(255 - alpha)
    return (total + np.uint32(127)) // np.uint32(255)


@njit(**INNER)
def _compose_row(out: Bytes, front: Bytes, behind: Bytes, alpha: Bytes) -> None:
    x = 0
    while x < alpha.size:
        value = alpha[x]
        end = _run_end(alpha, x)
        if value == 255:
            out[3 * x : 3 * end] = front[3 * x : 3 * end]
        elif value == 0:
            out[3 * x : 3 * end] = behind[3 * x : 3 * end]
        else:
            for i in range(3 * x, 3 * end):
                out[i] = np.uint8(_mix(front[i], behind[i], value))
        x = end


@njit(**KERNEL)
def compose(
    ticket: Longs, height: int, width: int, alpha: Rows, frame: Rows, behind: Rows, out: Rows
) -> None:
    """The frame over a background; rows zero bytes apart repeat one of it."""
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            _compose_row(
                byte_row(out, y, 3 * width),
                byte_row(frame, y, 3 * width),
                byte_row(behind, y, 3 * width),
                byte_row(alpha, y, width),
            )


@njit(**INNER)
def _cut_row(row: Bytes, front: Bytes, seen: Bytes) -> None:
    x = 0
    while x < seen.size:
        end = _run_end(seen, x)
        if seen[x] == 0:
            row[4 * x : 4 * end] = np.uint8(0)
        else:
            for i in range(x, end):
                row[4 * i] = front[3 * i]
                row[4 * i + 1] = front[3 * i + 1]
                row[4 * i + 2] = front[3 * i + 2]
                row[4 * i + 3] = seen[x]
        x = end


@njit(**KERNEL)
def cut_out(ticket: Longs, height: int, width: int, alpha: Rows, frame: Rows, out: Rows) -> None:
    """Blue, green, red, opacity; black where the opacity is zero."""
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            _cut_row(
                byte_row(out, y, 4 * width),
                byte_row(frame, y, 3 * width),
                byte_row(alpha, y, width),
            )


@njit(**KERNEL)
def sum_blocks(
    ticket: Longs, height: int, width: int, step: int, alpha: Rows, frame: Rows, sums: Floats
) -> None:
    """Sums over blocks of step x step pixels, each weighing 256 - opacity.

    ``sums`` gets the weighted blue, green and red and the weight; rows of blocks x blocks x 4.
    """
    while True:
        block_row = take_ticket(ticket)
        if block_row >= sums.shape[0]:
            return
        row = sums[block_row]
        row[:] = np.float32(0.0)
        for y in range(block_row * step, min(block_row * step + step, height)):
            front, seen = byte_row(frame, y, 3 * width), byte_row(alpha, y, width)
            for block in range(row.shape[0]):
                blue, green, red, weight = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
                for x in range(block * step, min(block * step + step, width)):
                    w = np.int32(256) - np.int32(seen[x])
                    blue += w * np.int32(front[3 * x])
                    green += w * np.int32(front[3 * x + 1])
                    red += w * np.int32(front[3 * x + 2])
                    weight += w
                row[block, 0] += np.float32(blue)
                row[block, 1] += np.float32(green)
                row[block, 2] += np.float32(red)
                row[block, 3] += np.float32(weight)


@njit(**KERNEL)
def divide_blocks(sums: Floats, out: Bytes) -> None:
    """Weighted sums to rounded colours."""
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            scale = np.float32(1.0) / sums[y, x, 3]
            for k in range(3):
                out[y, x, k] = np.uint8(sums[y, x, k] * scale + np.float32(0.5))


@njit(**KERNEL)
def draw_outline(
    ticket: Longs,
    height: int,
    width: int,
    labels: Any,
    low: Any,
    high: Any,
    colors: Bytes,
    is_drawn: Flags,
    frame: Rows,
    out: Rows,
) -> None:
    """The frame; pixels whose neighbourhood holds several labels in the colour of their own.

    ``low`` and ``high`` are the smallest and largest label around each pixel; the last entries of
    ``colors`` and ``is_drawn`` serve labels that name no class.
    """
    last = is_drawn.size - 1
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            row = byte_row(out, y, 3 * width)
            row[:] = byte_row(frame, y, 3 * width)
            least, most = low[y], high[y]
            x = 0
            while x < width:
                end = min(x + BLOCK, width)
                different = False
                for i in range(x, end):
                    different |= least[i] != most[i]
                if different:
                    for i in range(x, end):
                        label = min(np.int64(labels[y, i]), last)
                        if least[i] != most[i] and is_drawn[label]:
                            row[3 * i] = colors[label, 0]
                            row[3 * i + 1] = colors[label, 1]
                            row[3 * i + 2] = colors[label, 2]
                x = end


@njit(**FAST)
def _color_indices(value: Floats, is_confidence: bool, index: Ints) -> None:
    """Number of each value's colour, 0..255: doubt, or the opposite of confidence."""
    scale = np.float32(-255.0) if is_confidence else np.float32(255.0)
    start = np.float32(255.5) if is_confidence else np.float32(0.5)
    for i in range(value.size):
        at = min(max(value[i] * scale + start, np.float32(0.0)), np.float32(255.0))
        index[i] = np.int32(at)


@njit(**KERNEL)
def paint_heat(
    ticket: Longs,
    height: int,
    width: int,
    index: Ints,
    values: Rows,
    is_confidence: bool,
    labels: Any,
    is_drawn: Flags,
    tints: int,
    weights: Shorts,
    frame: Rows,
    out: Rows,
) -> None:
    """The frame tinted by a float32 map of 0..1: doubt, or confidence, its opposite.

    ``index`` is this thread's scratch, a row long. ``tints`` and ``weights`` are those of an
    `overlay.Blend` of 256 colours, whose last row leaves the frame as it is. ``labels`` may be
    empty: then every pixel is tinted.
    """
    last = is_drawn.size - 1
    some = labels.size > 0
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            _color_indices(float_row(values, y, width), is_confidence, index)
            if some:
                for x in range(width):
                    if not is_drawn[min(np.int64(labels[y, x]), last)]:
                        index[x] = 256
            x = FIRST
            while x < width:
                color, end = np.int64(index[x]), x + 1
                while end < width and index[end] == color:
                    end += 1
                blend_run(
                    out[0] + y * out[1], frame[0] + y * frame[1], width, x, end,
                    tints + color * TINT_BYTES, np.int64(weights[color]),
                )  # fmt: skip
                x = end
