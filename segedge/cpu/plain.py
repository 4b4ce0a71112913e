"""The kernels of a frame in NumPy, to the bit: what computes while nobody waits for a compiler.

Names and arguments are those of `segedge.cpu.kernels.frame`, the numbers and their order too: a
picture does not tell which of both made it. A few frames cost less here than loading Numba does.
Addresses are those of arrays that the caller has checked.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segedge.cpu.kernels.tables import (
    BLOCK,
    HUGE,
    Between,
    Doubles,
    Floats,
    Ints,
    Logits,
    Longs,
    Rows,
    Scratch,
    Spans,
    Taps,
    Targets,
    Tensor,
)

HAS_HALF = False
"""NumPy converts float16 without us."""
_ROWS = 32
"""Rows that are computed at once: few enough for a processor's cache."""
_one_at_a_time = threading.Lock()


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
    """The tensor by weighted means of the frame, or by means of 2 x 2 pixels."""
    picture = _view(frame[0], _reach(rows, columns), (frame[1], 1), np.uint8)
    first, weights = columns.first - columns.first[0], columns.weights
    low = 3 * columns.first[0]

    def content(source: slice) -> NDArray[Any]:
        lines, shares = rows.first[source], rows.weights[source]
        if tensor.halve:
            sums = picture[lines, low:].astype(np.uint16) + picture[lines + 1, low:]
            pairs = sums.reshape(lines.size, -1, 2, 3)
            return np.asarray(pairs[:, :, 0] + pairs[:, :, 1], np.float32)
        across = _mixed_rows(picture[:, low:], lines, shares).reshape(lines.size, -1, 3)
        total = across[:, first] * weights[:, :1]
        for tap in range(1, weights.shape[1]):
            total += across[:, first + tap] * weights[:, tap : tap + 1]
        return total

    _fill_tensor(ticket, rows, tensor, target, content)


def resample_rows(
    ticket: Longs, frame: Rows, columns: Taps, between: Between, mixed: Floats, planes: Floats
) -> None:
    """The picture between both axes, rounded to whole levels."""
    size = (
        between.first + between.levels.shape[0],
        3 * int(columns.first[-1] + columns.weights.shape[1]),
    )
    picture = _view(frame[0], size, (frame[1], 1), np.uint8)[between.first :]
    for band in _bands(ticket, between.levels.shape[0]):
        pixels = picture[band].reshape(band.stop - band.start, -1, 3)
        total = np.zeros((pixels.shape[0], columns.first.size, 3))
        for tap, shares in enumerate(columns.weights.T):
            total += pixels[:, columns.first + tap] * shares[:, None].astype(np.float64)
        levels = np.clip(total + 0.5, 0.0, 255.0).astype(np.uint8)
        between.levels[band] = levels.transpose(0, 2, 1).reshape(pixels.shape[0], -1)


def mix_levels(
    ticket: Longs,
    between: Between,
    rows: Taps,
    tensor: Tensor,
    target: int,
    mixed: Floats,
    planes: Floats,
) -> None:
    """The tensor from the picture between, rounded to whole levels again."""

    def content(source: slice) -> NDArray[Any]:
        lines = rows.first[source] - between.first
        total = np.zeros((lines.size, between.levels.shape[1]))
        for tap, shares in enumerate(rows.weights[source].T):
            total += between.levels[lines + tap] * shares[:, None].astype(np.float64)
        levels = np.clip(total + 0.5, 0.0, 255.0).astype(np.uint8)
        return np.asarray(levels.reshape(lines.size, 3, -1).transpose(0, 2, 1), np.float32)

    _fill_tensor(ticket, rows, tensor, target, content)


def argmax_grid(ticket: Longs, logits: Logits, labels: Ints, best: Floats) -> None:
    """Argmax at every grid point; the first of equal maxima, NaN never wins."""
    for band in _bands(ticket, labels.shape[0]):
        row = labels[band]
        row[:] = 0
        highest = np.full(row.shape, 0.0 if logits.sigmoid else -np.inf, np.float32)
        for label, plane in enumerate(_planes(logits, labels)[:, band], start=logits.sigmoid):
            better = plane > highest
            highest[better] = plane[better]
            row[better] = label


def render_cells(
    ticket: Longs,
    spans: Spans,
    logits: Logits,
    grid_labels: Ints,
    scratch: Scratch,
    targets: Targets,
    pixels: Longs,
) -> None:
    """Labels, overlay and counts by bilinear interpolation."""
    planes = _planes(logits, grid_labels)
    starts = spans.ends - np.diff(spans.ends, prepend=0)
    for rows, above, below in _unit_bands(ticket, spans):
        columns = (spans.low, spans.high, spans.low, spans.high)
        lines = (above, above, below, below)
        corners = [grid_labels[y[:, None], x] for y, x in zip(lines, columns, strict=True)]
        labels = np.repeat(corners[0], spans.ends - starts, axis=1)
        mixed = (corners[0] != corners[1]) | (corners[0] != corners[2]) | (corners[0] != corners[3])
        y, span = np.nonzero(mixed)
        if y.size:
            values = [
                _finite(planes[:, line[y], column[span]], logits.sigmoid)
                for line, column in zip(lines, columns, strict=True)
            ]
            weight = spans.row_weights[rows][y]
            _trace(labels, y, starts[span], spans.ends[span], spans.weights, values, weight)
        _paint(labels, rows.start, targets, pixels)


def render_lookup(
    ticket: Longs, spans: Spans, grid_labels: Ints, runs: Ints, targets: Targets, pixels: Longs
) -> None:
    """Like `render_cells` where each output pixel has the label of one grid point."""
    column = np.repeat(spans.low, np.diff(spans.ends, prepend=0))
    for rows, above, _ in _unit_bands(ticket, spans):
        _paint(grid_labels[above[:, None], column], rows.start, targets, pixels)


def clamp_labels(raw: Any, most: int, out: Ints) -> None:
    """Labels of any integer type as int32; what is outside 0..most becomes ``most``."""
    out[:] = np.where((raw >= 0) & (raw <= most), raw, most)


def _take(ticket: Longs) -> int:
    with _one_at_a_time:
        number = int(ticket[0])
        ticket[0] = number + 1
    return number


def _bands(ticket: Longs, height: int) -> Any:
    """Rows of a picture, until no ticket is left."""
    while (first := _take(ticket) * _ROWS) < height:
        yield slice(first, min(first + _ROWS, height))


def _unit_bands(ticket: Longs, spans: Spans) -> Any:
    """Output rows, and for each of them the grid rows above and below, until none are left."""
    units = spans.units
    some = max(1, _ROWS * units.shape[0] // spans.row_weights.size)
    while (first := _take(ticket) * some) < units.shape[0]:
        taken = units[first : first + some]
        above, below = np.repeat(taken[:, 2:], taken[:, 1] - taken[:, 0], axis=0).T
        yield slice(int(taken[0, 0]), int(taken[-1, 1])), above, below


def _view(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: DTypeLike
) -> NDArray[Any]:
    """What lies at an address; rows may run upwards."""
    reach = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    before = -sum(step for step in reach if step < 0)
    size = before + sum(step for step in reach if step > 0) + np.dtype(dtype).itemsize
    memory = (ctypes.c_uint8 * size).from_address(address - before)
    found: NDArray[Any] = np.ndarray(shape, dtype, memoryview(memory), before, strides)
    return found


def _reach(rows: Taps, columns: Taps) -> tuple[int, int]:
    """Rows and bytes a row that are read of a frame, from its first one."""
    height, width = (int(axis.first.max()) + axis.weights.shape[1] for axis in (rows, columns))
    return height, 3 * width


def _mixed_rows(picture: NDArray[np.uint8], lines: Ints, shares: Floats) -> Floats:
    """Weighted sums of rows, in the order of `segedge.cpu.kernels.resample.mix_rows`."""
    taps = shares.shape[1]
    if taps == 1:
        return picture[lines].astype(np.float32)
    total = picture[lines] * shares[:, :1]
    total += picture[lines + taps - 1] * shares[:, taps - 1 :]
    for tap in range(1, taps - 1):
        total += picture[lines + tap] * shares[:, tap : tap + 1]
    return total


def _fill_tensor(ticket: Longs, rows: Taps, tensor: Tensor, target: int, content: Any) -> None:
    """Borders, and within them what ``content`` makes of rows, normalised."""
    height, width, top, left = tensor.height, tensor.width, tensor.top, tensor.left
    strides = (12 * width, 12, 4) if tensor.channels_last else (4 * width, 4, 4 * height * width)
    whole = _view(target, (height, width, 3), strides, np.float32)
    inner = whole[:, left : left + tensor.content, :: -1 if tensor.reverse else 1]
    factor, bias = tensor.affine[:3], tensor.affine[3:]
    for band in _bands(ticket, height):
        first, end = max(band.start, top), min(band.stop, top + rows.first.size)
        whole[band, :left] = tensor.borders
        whole[band, left + tensor.content :] = tensor.borders
        whole[band.start : max(band.start, min(first, band.stop))] = tensor.borders
        whole[min(band.stop, max(end, band.start)) : band.stop] = tensor.borders
        if first < end:
            made = content(slice(first - top, end - top))[:, : tensor.content]
            inner[first:end] = made * factor + bias


def _planes(logits: Logits, labels: Ints) -> NDArray[np.float32]:
    """Logits as channels x rows x columns."""
    strides = tuple(4 * step for step in logits.strides)
    shape = (logits.channels, *labels.shape)
    return np.lib.stride_tricks.as_strided(logits.flat, shape, strides, writeable=False)


def _finite(values: NDArray[np.float32], sigmoid: bool) -> Doubles:
    """Classes x points; the background of a sigmoid head is a class with logit zero."""
    found = values.astype(np.float64)
    found = np.clip(np.where(np.isnan(found), -HUGE, found), -HUGE, HUGE)
    return np.concatenate([np.zeros_like(found), found]) if sigmoid else found


def _trace(
    labels: Ints,
    y: NDArray[np.intp],
    start: Ints,
    end: Ints,
    weights: Doubles,
    corners: list[Doubles],
    weight: Doubles,
) -> None:
    """Labels of pieces ``start..end`` of rows ``y``: `segedge.cpu.kernels.runs.row_runs`.

    ``corners`` are classes x pieces, as in `Scratch.corners`; ``weights`` those of the columns,
    ``weight`` of the grid row below.
    """
    above_left, above_right, below_left, below_right = corners
    left = above_left + (below_left - above_left) * weight
    slope = above_right + (below_right - above_right) * weight - left
    may_win = np.maximum.reduce(corners) >= np.minimum.reduce(corners).max(axis=0)
    left[~may_win] = -np.inf  # of -inf and any slope no sum wins
    slope[~may_win] = 0.0
    winner = np.argmax(left + slope * weights[start], axis=0)
    last = np.argmax(left + slope * weights[end - 1], axis=0)
    _fill(labels, y, start, end, winner)
    while (going := winner != last).any():
        y, start, end, winner, last = (each[going] for each in (y, start, end, winner, last))
        left, slope, may_win = left[:, going], slope[:, going], may_win[:, going]
        each = np.arange(y.size)
        steeper = slope - slope[winner, each]
        with np.errstate(divide="ignore", invalid="ignore"):
            bends = (left[winner, each] - left) / steeper
        bend = np.where(may_win & (steeper > 0.0), bends, np.inf).min(axis=0)
        column = start[:, None] + 1 + np.arange(int((end - start).max()))
        beyond = weights[np.minimum(column, weights.size - 1)] > bend[:, None]
        start = start + 1 + np.argmax(beyond | (column >= end[:, None]), axis=1)
        inside = start < end
        pixel = np.minimum(start, end - 1)
        winner = np.where(inside, np.argmax(left + slope * weights[pixel], axis=0), last)
        _fill(labels, y[inside], start[inside], end[inside], winner[inside])


def _fill(labels: Ints, y: Any, start: Any, end: Any, value: Any) -> None:
    """Pieces of rows take a value each."""
    if y.size == 0:
        return
    column = start[:, None] + np.arange(int((end - start).max()))
    piece, at = np.nonzero(column < end[:, None])
    labels[y[piece], column[piece, at]] = value[piece]


def _paint(labels: Ints, first: int, targets: Targets, pixels: Longs) -> None:
    """Write what is asked for of some rows of labels, and count them."""
    height, width = labels.shape
    if targets.labels:
        kind, step = (np.uint8, np.uint16)[targets.label_bytes - 1], targets.label_stride
        out = _view(targets.labels + first * step, labels.shape, (step, targets.label_bytes), kind)
        np.copyto(out, labels, casting="unsafe")
    if targets.overlay:
        known = np.minimum(labels, targets.weights.size - 1)
        shape = (targets.weights.size, 3)
        tints = _view(targets.tints, shape, (6 * BLOCK, 2), np.uint16)
        frame, overlay = (
            _view(address + first * step, (height, width, 3), (step, 3, 1), np.uint8)
            for address, step in (
                (targets.frame, targets.frame_stride),
                (targets.overlay, targets.overlay_stride),
            )
        )
        total = frame * targets.weights[known][..., None]
        total += tints[known]
        np.copyto(overlay, total >> 8, casting="unsafe")
    most = pixels.size - 1
    pixels += np.bincount(np.minimum(labels, most).ravel(), minlength=pixels.size)
