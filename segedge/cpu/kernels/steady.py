"""Kernels of smoothing: the guide image, and logits mixed with their past."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segedge.cpu.kernels.cells import INNER, KERNEL, Floats, Longs
from segedge.cpu.kernels.simd import float_of_bits, take_ticket
from segedge.options.smoothing import FINER, MOST_LOGIT, STILL_LEVELS

_ROWS = 8
_ONE, _ZERO, _UNFIT = np.float32(1.0), np.float32(0.0), np.float32(-1.0)
_INFINITE, _LOWEST = np.float32(np.inf), np.float32(-3e38)
_MOST, _STILL = np.float32(MOST_LOGIT), np.float32(STILL_LEVELS)
_HALF_SCALE = np.float32(2.0**112)
"""Exponents of float16 start 112 below those of float32."""

Labels = NDArray[np.uint16]


@njit(**INNER)
def _half(bits: int) -> float:
    """The float16 with these bits, its infinities and NaN aside."""
    value = float_of_bits(np.int32((bits & 0x7FFF) << 13)) * _HALF_SCALE
    signed: float = -value if bits & 0x8000 else value
    return signed


@njit(**KERNEL)
def measure_guide(
    ticket: Longs,
    tensor: Floats,
    is_half: bool,
    strides: Longs,
    rows: Longs,
    columns: Longs,
    affine: Floats,
    past: Floats,
    afresh: bool,
    limit: float,
    guide: Floats,
    change: Floats,
    differs: Longs,
) -> None:
    """Brightness around each grid point and how far it is from the past's, until no ticket is left.

    Args:
        ticket: Shared counter, see `simd.take_ticket`.
        tensor: The network's input, flat; the bits of float16 as uint16.
        is_half: Whether they are such bits.
        strides: Elements between channels, rows and columns.
        rows: Sampled rows of each row of cells, see `segedge.reference.smoothing.taps`.
        columns: Sampled columns, taps x columns of cells.
        affine: Factor and bias from the *sum* of a cell's samples to grey levels.
        past: FINER * Gh x FINER * Gw guide of the past.
        afresh: Whether there is no past: all change is infinite.
        limit: Change above which a point differs.
        guide: Result, like ``past``.
        change: Result, Gh x Gw.
        differs: Count of differing points of this thread, raised; its first element.
    """
    height, width = change.shape
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            for row in range(FINER * y, FINER * y + FINER):
                _guide_row(tensor, is_half, strides, rows[row], columns, affine, guide[row])
            count = 0
            for x in range(width):
                most = _INFINITE if afresh else _most_change(guide, past, y, x)
                change[y, x] = most
                count += most > limit
            differs[0] += count


@njit(**INNER)
def _guide_row(
    tensor: Floats, is_half: bool, strides: Longs, rows: Longs, columns: Longs, affine: Floats,
    out: Floats,
) -> None:  # fmt: skip
    """One row of cells: factor times the sum of the samples, plus bias."""
    step = strides[2]
    out[:] = affine[1]
    for i in range(rows.size):
        base = strides[0] + rows[i] * strides[1]
        for j in range(columns.shape[0]):
            for x in range(out.size):
                value = tensor[np.uint64(base + columns[j, x] * step)]  # not counted from the end
                level = _half(np.int32(value)) if is_half else np.float32(value)
                out[x] += level * affine[0]


@njit(**INNER)
def _most_change(guide: Floats, other: Floats, y: int, x: int) -> float:
    """Largest difference in the cells of a grid point."""
    most: float = _ZERO
    for i in range(FINER * y, FINER * y + FINER):
        for j in range(FINER * x, FINER * x + FINER):
            most = max(most, abs(guide[i, j] - other[i, j]))
    return most


@njit(**INNER)
def _neighbours_most(values: Floats, y: int, scratch: Floats, out: Floats) -> None:
    """Row ``y`` of the largest of each point and its eight neighbours."""
    height, width = values.shape
    above, below = max(y - 1, 0), min(y + 1, height - 1)
    for x in range(width):
        scratch[x] = max(max(values[above, x], values[y, x]), values[below, x])
    out[0] = max(scratch[0], scratch[min(1, width - 1)])
    for x in range(1, width - 1):
        out[x] = max(max(scratch[x - 1], scratch[x]), scratch[x + 1])
    if width > 1:
        out[width - 1] = max(scratch[width - 2], scratch[width - 1])


@njit(**KERNEL)
def blend_rows(
    ticket: Longs,
    logits: Floats,
    past: Floats,
    strides: Longs,
    channels: int,
    sigmoid: bool,
    guide: Floats,
    change: Floats,
    past_guide: Floats,
    settings: Floats,
    scratch: Floats,
) -> None:
    """Mix logits with their past in place, a few rows at a time, until no ticket is left.

    Args:
        ticket: Shared counter.
        logits: New logits, flat; become the smoothed ones.
        past: Smoothed logits of before, flat, finite; become those of now.
        strides: Elements between channels, rows and columns of both.
        channels: How many logits a point has.
        sigmoid: Whether the single one is compared with zero.
        guide: Guide of this frame.
        change: Gh x Gw, see `measure_guide`.
        past_guide: Guide of the past; becomes that of now.
        settings: Most of the past's share, 1 / tolerance, 1 / margin.
        scratch: Of this thread, 5 x Gw.
    """
    height, width = change.shape
    share, best = scratch[0], scratch[1]
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            _neighbours_most(change, y, best, share)
            for x in range(width):
                part = share[x] * settings[1]
                rest = _ONE - part * part
                share[x] = settings[0] * (rest if rest > _ZERO else _ZERO)
            base = y * strides[1]
            is_fit = _weigh_row(logits, base, strides, channels, sigmoid, settings[2], scratch)
            if is_fit and strides[2] == 1:
                for c in range(channels):
                    start = base + c * strides[0]
                    _mix_row(logits[start : start + width], past[start : start + width], share)
            else:
                for x in range(width):
                    _mix_point(logits, past, base + x * strides[2], strides[0], channels, share[x])
            _mix_guide(guide, past_guide, y, share)


@njit(**INNER)
def _mix_guide(guide: Floats, past: Floats, y: int, share: Floats) -> None:
    """The guide of the past follows its logits; unfit points have none."""
    for i in range(FINER * y, FINER * y + FINER):
        for x in range(share.size):
            weight = share[x]
            for j in range(FINER * x, FINER * x + FINER):
                mixed = guide[i, j]
                if weight > _ZERO:
                    mixed += weight * (past[i, j] - mixed)
                past[i, j] = _INFINITE if weight < _ZERO else mixed


@njit(**INNER)
def _weigh_row(
    logits: Floats, base: int, strides: Longs, channels: int, sigmoid: bool, per_lead: float,
    scratch: Floats,
) -> bool:  # fmt: skip
    """Lower the shares in ``scratch[0]`` by how sure the new logits are; unfit points get -1.

    Returns whether all are fit.
    """
    share, best, second, next_best, next_second = (
        scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    )  # fmt: skip
    width = share.size
    best[:] = _LOWEST
    second[:] = _ZERO if sigmoid else _LOWEST
    for c in range(channels):
        start = base + c * strides[0]
        if strides[2] == 1:  # two calls: a row of unknown stride would not be vectorised
            row = logits[start : start + width]
            _rank(row, sigmoid, share, best, second, next_best, next_second)
        else:
            apart = logits[start : start + (width - 1) * strides[2] + 1 : strides[2]]
            _rank(apart, sigmoid, share, best, second, next_best, next_second)
        best, next_best = next_best, best
        second, next_second = next_second, second
    unfit = 0
    for x in range(width):
        lead = best[x] - second[x]
        mixed = share[x] / (_ONE + lead * per_lead)
        unfit += share[x] < _ZERO
        share[x] = _UNFIT if share[x] < _ZERO else mixed
    return unfit == 0


@njit(**INNER)
def _rank(
    row: Floats, sigmoid: bool, share: Floats, best: Floats, second: Floats,
    next_best: Floats, next_second: Floats,
) -> None:  # fmt: skip
    """One more class among the best two, written elsewhere.

    In place, LLVM would make each write conditional, and the loop could not be vectorised. Points
    with a NaN or a huge logit become unfit.
    """
    for x in range(share.size):
        size = abs(row[x])
        share[x] = share[x] if size <= _MOST else _UNFIT
        value = size if sigmoid else row[x]
        lead = best[x]
        lower = lead if lead < value else value
        next_second[x] = second[x] if sigmoid or second[x] > lower else lower
        next_best[x] = value if value > lead else lead


@njit(**INNER)
def _mix_row(logits: Floats, past: Floats, share: Floats) -> None:
    for x in range(share.size):
        value = logits[x]
        mixed = value + share[x] * (past[x] - value)
        logits[x] = mixed
        past[x] = mixed


@njit(**INNER)
def _mix_point(
    logits: Floats, past: Floats, start: int, step: int, channels: int, weight: float
) -> None:
    for c in range(channels):
        at = start + c * step
        value = logits[at]
        mixed = value + weight * (past[at] - value)
        logits[at] = mixed if weight >= _ZERO else value
        past[at] = mixed if weight >= _ZERO else _ZERO


@njit(**KERNEL)
def label_grid(
    ticket: Longs, logits: Floats, strides: Longs, channels: int, sigmoid: bool, labels: Labels,
    scratch: Floats,
) -> None:  # fmt: skip
    """Argmax of every grid point: NaN never wins, the first of equals does; 5 x Gw scratch."""
    height, width = labels.shape
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            best, label, next_best, next_label = scratch[0], scratch[1], scratch[2], scratch[3]
            best[:] = _ZERO if sigmoid else -_INFINITE
            label[:] = _ZERO
            for c in range(channels):
                start = y * strides[1] + c * strides[0]
                number = np.float32(c + 1) if sigmoid else np.float32(c)
                if strides[2] == 1:
                    row = logits[start : start + width]
                    _lead(row, number, best, label, next_best, next_label)
                else:
                    apart = logits[start : start + (width - 1) * strides[2] + 1 : strides[2]]
                    _lead(apart, number, best, label, next_best, next_label)
                best, next_best = next_best, best
                label, next_label = next_label, label
            for x in range(width):
                labels[y, x] = np.uint16(label[x])


@njit(**INNER)
def _lead(
    row: Floats, number: float, best: Floats, label: Floats, next_best: Floats, next_label: Floats
) -> None:
    """One more class against the best, written elsewhere; see `_rank`."""
    for x in range(best.size):
        value = row[x]
        next_label[x] = number if value > best[x] else label[x]
        next_best[x] = value if value > best[x] else best[x]


@njit(**KERNEL)
def still_points(change: Floats, guide: Floats, last_guide: Floats, still: Labels) -> int:
    """Where the image did not change since the last frame; Gh x Gw of 1 and 0.

    Args:
        change: Scratch, Gh x Gw.
        guide: Guide of this frame.
        last_guide: Of the one before; becomes that of this one.
        still: Result.

    Returns:
        How many points were still.
    """
    height, width = change.shape
    for y in range(height):
        for x in range(width):
            change[y, x] = _most_change(guide, last_guide, y, x)
    count = 0
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            most = _ZERO
            for i in range(above, below + 1):
                for j in range(max(x - 1, 0), min(x + 1, width - 1) + 1):
                    most = max(most, change[i, j])
            still[y, x] = 1 if most < _STILL else 0
            count += still[y, x]
    last_guide[:] = guide
    return count


@njit(**KERNEL)
def count_changes(
    labels: Labels, still: Labels, last: Labels, older: Labels, follows: bool, counts: Longs
) -> None:
    """Add the still points whose label changed, and those that changed back, to ``counts``.

    Args:
        labels: Gh x Gw labels of this frame.
        still: See `still_points`.
        last: Labels of the frame before; become those of this one.
        older: Labels of two frames before; become those of the one before.
        follows: Whether there are such frames; else only the labels are taken over.
        counts: Changed and returned points.
    """
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label, before = labels[y, x], last[y, x]
            if follows and still[y, x] and label != before:
                counts[0] += 1
                counts[1] += label == older[y, x]
            last[y, x] = label
            older[y, x] = before if follows else label
