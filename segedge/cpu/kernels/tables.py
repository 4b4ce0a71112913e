"""What kernels are given, under names; how they are compiled; and the rows that they write.

An array taken out of a tuple is counted up and down, atomically: a kernel takes out once what its
loops need. Rows and cells are handed arrays; done there, it made the tail a quarter slower.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray
from numpy.typing import NDArray

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.simd import pointer_f32, pointer_u8

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Shorts = NDArray[np.uint16]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Rows = tuple[int, int]
"""Address of a plane and bytes from one of its rows to the next; rows need not be contiguous."""
Strides = tuple[int, int, int]
"""Elements between channels, rows and columns."""
Line = tuple[float, float, float]
"""Scale and offset from output column to grid column, and one over the scale."""

INNER: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
"""For functions that only kernels call: a cache of their own would double the compile time."""
KERNEL: dict[str, Any] = {**INNER, "cache": True}
FAST: dict[str, Any] = {**INNER, "fastmath": {"contract", "nsz"}}


FIRST: int = np.int64(0)
"""Where counting begins. A plain 0 is a type of its own to Numba: it would compile every function
that a count is handed to twice, a seventh of the time until a first frame."""


class Logits(NamedTuple):
    """A network's logits as the kernels read them."""

    flat: Floats
    strides: Strides
    channels: int
    """How many a point has."""
    sigmoid: bool
    """Whether the single channel is compared with zero: the background's logit."""


class Spans(NamedTuple):
    """Which output pixels lie in which cell of the grid; made by `segedge.cpu.plan.spans_of`."""

    units: Ints
    """Pieces of work: first output row, end, grid row above, grid row below."""
    row_weights: Doubles
    """Share of the grid row below, for each output row."""
    ends: Ints
    """End of each span of output columns."""
    low: Ints
    """Grid column on the near side of each span."""
    high: Ints
    """Grid column on the far side of each span."""
    weights: Doubles
    """Share of the far side, for each output column."""
    singles: Floats
    """The same, rounded."""
    map: Line


class Targets(NamedTuple):
    """Where labels and overlay go, and what colours the overlay; no address, not asked for."""

    labels: int
    label_stride: int
    label_bytes: int
    """1 or 2."""
    overlay: int
    overlay_stride: int
    frame: int
    frame_stride: int
    tints: int
    """Address of `segedge.cpu.overlay.Blend.colors`."""
    weights: Shorts
    """Of the blend; the last entry serves labels that name no class."""


class Scratch(NamedTuple):
    """What one thread writes while it works on logits."""

    segments: Ints
    """Spans x 5: end, label or -1, first contender, last contender + 1, span."""
    contender: Ints
    """Classes that can win: of all cells of a row, one behind the other."""
    values: Doubles
    """Their corners."""
    corners: Doubles
    """Classes x 4: above left, above right, below left, below right of one cell."""
    lines: Doubles
    """Classes x 2: value at the left corner and slope along an output row."""
    singles: Floats
    """The same, rounded, relative to the best."""
    runs: Ints
    """Pixels x 2: end and label."""
    best: Floats
    """3 x the longer of output row and grid row."""


@njit(**INNER)
def byte_row(rows: Rows, y: int, size: int) -> Bytes:
    """``size`` bytes of row ``y`` of a plane."""
    row: Bytes = carray(pointer_u8(rows[0] + y * rows[1]), (size,))
    return row


@njit(**INNER)
def float_row(rows: Rows, y: int, size: int) -> Floats:
    """``size`` float32 of row ``y`` of a plane."""
    row: Floats = carray(pointer_f32(rows[0] + y * rows[1]), (size,))
    return row
