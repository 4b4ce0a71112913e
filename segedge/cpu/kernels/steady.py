"""Kernels of smoothing: the guide image, and logits mixed with their past."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.simd import float_of_bits, take_ticket
from segedge.cpu.kernels.tables import INNER, KERNEL, Floats, Logits, Longs, Shorts, Strides, table
from segedge.options.smoothing import FINER, MOST_LOGIT, STILL_LEVELS

_ROWS = 8
_ONE, _ZERO, _UNFIT = np.float32(1.0), np.float32(0.0), np.float32(-1.0)
_INFINITE, _LOWEST = np.float32(np.inf), np.float32(-3e38)
_MOST, _STILL = np.float32(MOST_LOGIT), np.float32(STILL_LEVELS)
_HALF_SCALE = np.float32(2.0**112)
"""Exponents of float16 start 112 below those of float32."""


@table
class Tensor(NamedTuple):
    """The network's input, and which of its values the guide is made from."""

    flat: Floats
    """The bits of float16 as uint16."""
    is_half: bool
    """Whether they are such bits."""
    strides: Strides
    rows: Longs
    """Sampled rows of each row of cells, see `segedge.reference.smoothing.taps`."""
    columns: Longs
    """Sampled columns, taps x columns of cells."""
    affine: Floats
    """Factor and bias from the *sum* of a cell's samples to grey levels."""


@njit(**INNER)
def _half(bits: int) -> float:
    """The float16 with these bits, its infinities and NaN aside."""
    value = float_of_bits(np.int32((bits & 0x7FFF) << 13)) * _HALF_SCALE
    signed: float = -value if bits & 0x8000 else value
    return signed


@njit(**KERNEL)
def measure_guide(
    ticket: Longs,
    tensor: Tensor,
    past: Floats,
    afresh: bool,
    limit: float,
    guide: Floats,
    change: Floats,
    differs: Longs,
) -> None:
    """Brightness around each grid point and how far it is from the past's, until no ticket is left.

    ``guide`` and ``past`` are FINER * Gh x FINER * Gw, ``change`` is Gh x Gw: infinite where there
    is no past. Points that changed by more than ``limit`` raise ``differs[0]``, of this thread.
    """
    height, width = change.shape
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            for row in range(FINER * y, FINER * y + FINER):
                _guide_row(tensor, row, guide[row])
            count = 0
            for x in range(width):
                most = _INFINITE if afresh else _most_change(guide, past, y, x)
                change[y, x] = most
                count += most > limit
            differs[0] += count


@njit(**INNER)
def _guide_row(tensor: Tensor, cells: int, out: Floats) -> None:
    """One row of cells: factor times the sum of the samples, plus bias."""
    flat, strides, affine = tensor.flat, tensor.strides, tensor.affine
    rows, columns = tensor.rows[cells], tensor.columns
    step = strides[2]
    out[:] = affine[1]
    for i in range(rows.size):
        base = strides[0] + rows[i] * strides[1]
        for j in range(columns.shape[0]):
            for x in range(out.size):
                value = flat[np.uint64(base + columns[j, x] * step)]  # not counted from the end
                level = _half(np.int32(value)) if tensor.is_half else np.float32(value)
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
    logits: Logits,
    past: Floats,
    guide: Floats,
    change: Floats,
    past_guide: Floats,
    settings: Floats,
    scratch: Floats,
) -> None:
    """Mix logits with their past in place, a few rows at a time, until no ticket is left.

    ``past`` and ``past_guide`` become those of this frame. ``settings``: most of the past's share,
    1 / tolerance, 1 / margin. ``scratch`` of this thread is 5 x Gw.
    """
    flat, strides, channels = logits.flat, logits.strides, logits.channels
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
            is_fit = _weigh_row(logits, base, settings[2], scratch)
            if is_fit and strides[2] == 1:
                for c in range(channels):
                    start = base + c * strides[0]
                    _mix_row(flat[start : start + width], past[start : start + width], share)
            else:
                for x in range(width):
                    _mix_point(flat, past, base + x * strides[2], strides[0], channels, share[x])
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
def _weigh_row(logits: Logits, base: int, per_lead: float, scratch: Floats) -> bool:
    """Lower the shares in ``scratch[0]`` by how sure the new logits are; unfit points get -1.

    Returns whether all are fit.
    """
    flat, strides, sigmoid = logits.flat, logits.strides, logits.sigmoid
    share, best, second, next_best, next_second = (
        scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    )  # fmt: skip
    width = share.size
    best[:] = _LOWEST
    second[:] = _ZERO if sigmoid else _LOWEST
    for c in range(logits.channels):
        start = base + c * strides[0]
        if strides[2] == 1:  # two calls: a row of unknown stride would not be vectorised
            row = flat[start : start + width]
            _rank(row, sigmoid, share, best, second, next_best, next_second)
        else:
            apart = flat[start : start + (width - 1) * strides[2] + 1 : strides[2]]
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
def label_grid(ticket: Longs, logits: Logits, labels: Shorts, scratch: Floats) -> None:
    """Argmax of every grid point: NaN never wins, the first of equals does; 5 x Gw scratch."""
    flat, strides, sigmoid = logits.flat, logits.strides, logits.sigmoid
    height, width = labels.shape
    while True:
        first = take_ticket(ticket) * _ROWS
        if first >= height:
            return
        for y in range(first, min(first + _ROWS, height)):
            best, label, next_best, next_label = scratch[0], scratch[1], scratch[2], scratch[3]
            best[:] = _ZERO if sigmoid else -_INFINITE
            label[:] = _ZERO
            for c in range(logits.channels):
                start = y * strides[1] + c * strides[0]
                number = np.float32(c + 1) if sigmoid else np.float32(c)
                if strides[2] == 1:
                    row = flat[start : start + width]
                    _lead(row, number, best, label, next_best, next_label)
                else:
                    apart = flat[start : start + (width - 1) * strides[2] + 1 : strides[2]]
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
def still_points(change: Floats, guide: Floats, last_guide: Floats, still: Shorts) -> int:
    """Where the image did not change since the last frame: Gh x Gw of 1 and 0; returns how many.

    ``last_guide`` becomes that of this frame; ``change`` is scratch, Gh x Gw.
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
    labels: Shorts, still: Shorts, last: Shorts, older: Shorts, follows: bool, counts: Longs
) -> None:
    """Add the still points whose label changed, and those that changed back, to ``counts``.

    ``last`` and ``older`` (labels of the frame before and of the one before that) move up by one;
    where this frame does not follow them, that is all.
    """
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label, before = labels[y, x], last[y, x]
            if follows and still[y, x] and label != before:
                counts[0] += 1
                counts[1] += label == older[y, x]
            last[y, x] = label
            older[y, x] = before if follows else label
