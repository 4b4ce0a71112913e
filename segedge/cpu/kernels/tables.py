"""What kernels are given, under names, and how they are compiled; Numba is not needed for it.

An array taken out of a tuple is counted up and down, atomically: a kernel takes out once what its
loops need. Rows and cells are handed arrays; done there, it made the tail a quarter slower.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
"""Pixels a block of the vector operations; 48 bytes of an interleaved image."""
HUGE = 1e30
"""Infinite logits count as this, NaN and minus infinity as its negative: neither can spread."""
LEAST, LEAST_ODDS = 1e-30, 1e-6
"""What probabilities are at least, and shares of one class and of its opposite, for logarithms."""
LANES = 4
"""Pixels that `simd.mix_taps` makes at once: one vector a pixel, then a 4 x 4 transposition."""
TILE = 8
"""Points and channels of `simd.read_tile`; a key's channels are filled up to whole tiles."""
WIDE = 32
"""Pixels of a confidence that are worked on at once: their lines stay in registers and in the first
cache."""
STEP_BYTES = 4 * (WIDE + BLOCK)
"""From a class's line to its steps, see `softmax`: a cell's last block may reach over the end."""
LINE_BYTES = 2 * STEP_BYTES
UNIT_BLOCKS = 4096
"""Blocks of values that are converted at a time."""
PROBABILITY, MARGIN, ENTROPY = 0, 1, 2
"""Kinds of confidence."""
LOGITS, PROBABILITIES, SHARES = 0, 1, 2
"""What an output holds: the last is the sigmoid of one class, less a half."""
TINT_BYTES = 6 * BLOCK
"""Bytes of one class in `segedge.cpu.overlay.Blend.colors`."""

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


class Table:
    """A named tuple that kernels are handed, see `table`."""

    packed: tuple[str, array[int]] | None = None
    """What it is and its numbers, as `segedge.cpu.kernels.compiled` packs them: made once."""


_T = TypeVar("_T")


def table(kind: type[_T]) -> type[_T]:
    """Decorator of a named tuple: it has a place for its packed form.

    Packing a dozen arrays takes as long as drawing some rows, under the interpreter's lock. Tables
    are not changed, and arrays do not move, so the packed form lives and ends with the tuple.
    """
    told = {"__doc__": kind.__doc__, "__module__": kind.__module__}
    return type(kind.__name__, (Table, kind), {**told, "__qualname__": kind.__qualname__})


@table
class Logits(NamedTuple):
    """A network's logits as the kernels read them."""

    flat: Floats
    strides: Strides
    channels: int
    """How many a point has."""
    sigmoid: bool
    """Whether the single channel is compared with zero: the background's logit."""


@table
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


@table
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


@table
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
    runs: Ints
    """Pixels x 2: end and label."""
    best: Floats
    """3 x the longer of output row and grid row."""


@table
class Sureness(NamedTuple):
    """What one thread writes while it works out a confidence."""

    rows: Floats
    """4 x classes x Gw: the logits of the grid row above, less the highest of each point, what is
    added to the next point, what to the row below, and what to that to the next point."""
    most: Floats
    """Classes x Gw: the higher of both."""
    least: Floats
    """Classes x Gw: the lower of both."""
    lead: Floats
    """2 x Gw: in the cell right of each column, the highest of what a class has at all four
    corners, and the second highest."""
    lines: Floats
    """Classes x `LINE_BYTES`, aligned: see `softmax`."""
    cells: Longs
    """2 x `WIDE`: cells of a line, see `softmax.lay_line`."""
    weights: Floats
    """`Spans.singles`, and a block behind them."""
    results: Floats
    """2 x `WIDE`: of a row, and their sums over the rows."""


@table
class Taps(NamedTuple):
    """One axis: a window of equal width for each output pixel."""

    first: Ints
    """First input pixel of each window; the whole window is inside the image."""
    weights: Floats
    """Output pixels x window width; each row sums to one."""


@table
class Tensor(NamedTuple):
    """The network's input, and where the frame lies in it."""

    height: int
    width: int
    top: int
    """First row with content."""
    left: int
    """First column with content."""
    content: int
    """Columns with content."""
    channels_last: bool
    reverse: bool
    """Whether its channels run against the frame's."""
    halve: bool
    """Whether it is the exact mean of 2x2 pixels."""
    affine: Floats
    """Three factors and three biases, in the frame's channel order."""
    borders: Floats
    """Normalised border value of each channel."""


@table
class Between(NamedTuple):
    """The picture between the two passes."""

    levels: Bytes
    """Frame rows x (3 planes of the columns), in the frame's channel order."""
    first: int
    """The frame's row that its first one is."""
    identity: Floats
    """A factor of 1 and a bias of 0 for each channel, as `mix_columns` wants them."""
    one: Floats
    """The weight of a single row."""
