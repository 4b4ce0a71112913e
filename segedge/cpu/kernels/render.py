"""Kernels that turn runs of labels into bytes: label maps, overlays and pixel counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from segedge.cpu.kernels.cells import INNER, KERNEL, Doubles, Floats, Ints, Longs, classify_cells
from segedge.cpu.kernels.runs import append_run, row_runs
from segedge.cpu.kernels.simd import BLOCK, blend_block, fill_u8, fill_u16, pointer_u8, take_ticket

TINT_BYTES = 6 * BLOCK
"""Bytes of one class in `overlay.Blend.colors`."""


@njit(**INNER)
def _fill_labels(row: int, width: int, bytes_each: int, start: int, end: int, label: int) -> None:
    """Labels of one run. Whole blocks may run over its end: the next run writes over them."""
    x = start
    if bytes_each == 1:
        while x < end and x + BLOCK <= width:
            fill_u8(row + x, np.uint8(label))
            x += BLOCK
    else:
        while x < end and x + BLOCK <= width:
            fill_u16(row + 2 * x, np.uint16(label))
            x += BLOCK
    if x < end:
        bytes_out = carray(pointer_u8(row), (width * bytes_each,))
        for i in range(x, end):
            bytes_out[i * bytes_each] = np.uint8(label)
            if bytes_each == 2:
                bytes_out[2 * i + 1] = np.uint8(label >> 8)


@njit(**INNER)
def blend_run(
    out: int, frame: int, width: int, start: int, end: int, tint: int, weight: int
) -> None:
    """Overlay of one run; whole blocks may run over its end, as in `_fill_labels`."""
    x = start
    while x < end and x + BLOCK <= width:
        blend_block(out + 3 * x, frame + 3 * x, tint, np.uint16(weight))
        x += BLOCK
    if x >= end:
        return
    if end - start >= BLOCK:  # the run's last block again, shifted back
        blend_block(out + 3 * (end - BLOCK), frame + 3 * (end - BLOCK), tint, np.uint16(weight))
        return
    bytes_out = carray(pointer_u8(out), (3 * width,))
    bytes_in = carray(pointer_u8(frame), (3 * width,))
    tints = carray(pointer_u8(tint), (TINT_BYTES,))
    for i in range(3 * x, 3 * end):
        channel = 2 * (i - 3 * x) % TINT_BYTES
        color = np.uint32(tints[channel]) + (np.uint32(tints[channel + 1]) << np.uint32(8))
        total = np.uint32(bytes_in[i]) * np.uint32(weight) + color
        bytes_out[i] = np.uint8(total >> np.uint32(8))


@njit(**INNER)
def paint_row(
    runs: Ints,
    count: int,
    width: int,
    labels: int,
    label_bytes: int,
    overlay: int,
    frame: int,
    tints: int,
    weights: NDArray[np.uint16],
    pixels: Longs,
) -> None:
    """Write what is asked for of one output row; an address of zero asks for nothing.

    Args:
        runs: End and label of each run.
        count: How many runs.
        width: Pixels of the row.
        labels: Address of the row of labels, or 0.
        label_bytes: 1 or 2 bytes a label.
        overlay: Address of the overlay's row, or 0.
        frame: Address of the frame's row.
        tints: Address of the blend's colours.
        weights: The blend's weights; the last entry serves labels that name no class.
        pixels: Count of each label; the last entry counts labels that name no class.
    """
    start = 0
    for r in range(count):
        end, label = np.int64(runs[r, 0]), np.int64(runs[r, 1])
        if labels != 0:
            _fill_labels(labels, width, label_bytes, start, end, label)
        if overlay != 0:
            known = min(label, weights.size - 1)
            tint = tints + known * TINT_BYTES
            blend_run(overlay, frame, width, start, end, tint, np.int64(weights[known]))
        pixels[min(label, pixels.size - 1)] += end - start
        start = end


@njit(**KERNEL)
def render_cells(
    ticket: Longs,
    units: Ints,
    row_weights: Doubles,
    column_end: Ints,
    column_low: Ints,
    column_high: Ints,
    column_weights: Doubles,
    column_map: Doubles,
    logits: Floats,
    strides: Longs,
    channels: int,
    sigmoid: bool,
    grid_labels: Ints,
    segments: Ints,
    contender: Ints,
    values: Doubles,
    corners: Doubles,
    lines: Doubles,
    runs: Ints,
    labels: int,
    label_stride: int,
    label_bytes: int,
    overlay: int,
    overlay_stride: int,
    frame: int,
    frame_stride: int,
    tints: int,
    weights: NDArray[np.uint16],
    pixels: Longs,
) -> None:
    """Labels, overlay and counts by bilinear interpolation, unit by unit until none is left.

    Tables are those of `plan`, scratch that of `cells`, outputs those of `paint_row`.
    """
    width = column_weights.size
    while True:
        unit = take_ticket(ticket)
        if unit >= units.shape[0]:
            return
        rows = (np.int64(units[unit, 2]), np.int64(units[unit, 3]))
        segment_count = classify_cells(
            logits, strides, channels, sigmoid, grid_labels, rows, column_end, column_low,
            column_high, segments, contender, values, corners,
        )  # fmt: skip
        for y in range(units[unit, 0], units[unit, 1]):
            count = row_runs(
                segments, segment_count, contender, values, row_weights[y], column_low,
                column_weights, column_map, lines, runs,
            )  # fmt: skip
            paint_row(
                runs, count, width,
                labels + y * label_stride if labels != 0 else 0, label_bytes,
                overlay + y * overlay_stride if overlay != 0 else 0,
                frame + y * frame_stride, tints, weights, pixels,
            )  # fmt: skip


@njit(**KERNEL)
def render_lookup(
    ticket: Longs,
    units: Ints,
    column_end: Ints,
    column_low: Ints,
    grid_labels: Ints,
    runs: Ints,
    labels: int,
    label_stride: int,
    label_bytes: int,
    overlay: int,
    overlay_stride: int,
    frame: int,
    frame_stride: int,
    tints: int,
    weights: NDArray[np.uint16],
    pixels: Longs,
) -> None:
    """Like `render_cells` where each output pixel has the label of one grid point."""
    width = np.int64(column_end[-1])
    while True:
        unit = take_ticket(ticket)
        if unit >= units.shape[0]:
            return
        row = grid_labels[units[unit, 2]]
        count = 0
        for span in range(column_end.size):
            count = append_run(runs, count, column_end[span], row[column_low[span]])
        for y in range(units[unit, 0], units[unit, 1]):
            paint_row(
                runs, count, width,
                labels + y * label_stride if labels != 0 else 0, label_bytes,
                overlay + y * overlay_stride if overlay != 0 else 0,
                frame + y * frame_stride, tints, weights, pixels,
            )  # fmt: skip


@njit(**KERNEL)
def clamp_labels(raw: Any, most: int, out: Ints) -> None:
    """Labels of any integer type as int32; what is outside 0..most becomes ``most``."""
    for i in range(raw.size):
        value = raw[i]
        out[i] = value if 0 <= value <= most else most
