"""Kernels that turn runs of labels into bytes: label maps, overlays and pixel counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.cpu.kernels.cells import classify_cells
from segedge.cpu.kernels.compiled import carray, njit
from segedge.cpu.kernels.runs import append_run, row_runs
from segedge.cpu.kernels.simd import blend_block, fill_u8, fill_u16, pointer_u8, take_ticket
from segedge.cpu.kernels.tables import (
    BLOCK,
    FIRST,
    INNER,
    KERNEL,
    TINT_BYTES,
    Ints,
    Logits,
    Longs,
    Scratch,
    Spans,
    Targets,
)


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
def paint_row(runs: Ints, count: int, width: int, y: int, targets: Targets, pixels: Longs) -> None:
    """Write what is asked for of one output row from its runs (end, label), and count its labels.

    The last entry of ``pixels`` counts labels that name no class.
    """
    labels = targets.labels + y * targets.label_stride if targets.labels != 0 else 0
    overlay = targets.overlay + y * targets.overlay_stride if targets.overlay != 0 else 0
    frame = targets.frame + y * targets.frame_stride
    weights = targets.weights
    start = FIRST
    for r in range(count):
        end, label = np.int64(runs[r, 0]), np.int64(runs[r, 1])
        if labels != 0:
            _fill_labels(labels, width, targets.label_bytes, start, end, label)
        if overlay != 0:
            known = min(label, weights.size - 1)
            tint = targets.tints + known * TINT_BYTES
            blend_run(overlay, frame, width, start, end, tint, np.int64(weights[known]))
        pixels[min(label, pixels.size - 1)] += end - start
        start = end


@njit(**KERNEL)
def render_cells(
    ticket: Longs,
    spans: Spans,
    logits: Logits,
    grid_labels: Ints,
    scratch: Scratch,
    targets: Targets,
    pixels: Longs,
) -> None:
    """Labels, overlay and counts by bilinear interpolation, unit by unit until none is left."""
    units, row_weights, width = spans.units, spans.row_weights, spans.weights.size
    low, weights, column_map = spans.low, spans.weights, spans.map
    segments, contender, values = scratch.segments, scratch.contender, scratch.values
    lines, runs = scratch.lines, scratch.runs
    while True:
        unit = take_ticket(ticket)
        if unit >= units.shape[0]:
            return
        rows = (np.int64(units[unit, 2]), np.int64(units[unit, 3]))
        segment_count = classify_cells(logits, grid_labels, rows, spans, scratch)
        for y in range(units[unit, 0], units[unit, 1]):
            count = row_runs(
                segments, segment_count, contender, values, row_weights[y], low, weights,
                column_map, lines, runs,
            )  # fmt: skip
            paint_row(runs, count, width, y, targets, pixels)


@njit(**KERNEL)
def render_lookup(
    ticket: Longs, spans: Spans, grid_labels: Ints, runs: Ints, targets: Targets, pixels: Longs
) -> None:
    """Like `render_cells` where each output pixel has the label of one grid point."""
    units, ends, low = spans.units, spans.ends, spans.low
    width = np.int64(ends[-1])
    while True:
        unit = take_ticket(ticket)
        if unit >= units.shape[0]:
            return
        row = grid_labels[units[unit, 2]]
        count = FIRST
        for span in range(ends.size):
            count = append_run(runs, count, np.int64(ends[span]), row[low[span]])
        for y in range(units[unit, 0], units[unit, 1]):
            paint_row(runs, count, width, y, targets, pixels)


@njit(**KERNEL)
def clamp_labels(raw: Any, most: int, out: Ints) -> None:
    """Labels of any integer type as int32; what is outside 0..most becomes ``most``."""
    for i in range(raw.size):
        value = raw[i]
        out[i] = value if 0 <= value <= most else most
