"""float16 <-> float32, shared among threads; NumPy's own conversion takes ten times as long."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segedge.cpu.kernels.simd import BLOCK, HAS_HALF, narrow_block, take_ticket, widen_block
from segedge.cpu.workers import Workers

_BLOCKS_A_UNIT = 4096
_NOTHING = (np.empty(0), np.empty(0))


class Converter:
    """Copies one flat array into another of the other width."""

    def __init__(self, workers: Workers) -> None:
        """Prepare."""
        self._workers = workers
        self._ticket = np.zeros(1, np.int64)
        self._arrays: tuple[NDArray[Any], NDArray[Any]] = _NOTHING

    def run(self, source: NDArray[Any], out: NDArray[Any]) -> None:
        """Convert contiguous arrays of equal size, one float32, the other float16."""
        source, out = source.reshape(-1), out.reshape(-1)
        whole = source.size // BLOCK * BLOCK if HAS_HALF else 0
        if whole:
            self._arrays = (source, out)
            self._ticket[0] = 0
            if whole <= _BLOCKS_A_UNIT * BLOCK:
                self._convert(0)
            else:
                self._workers.run(self._convert)
            self._arrays = _NOTHING
        np.copyto(out[whole:], source[whole:], casting="same_kind")

    def _convert(self, participant: int) -> None:
        source, out = self._arrays
        blocks = source.size // BLOCK
        _convert_blocks(
            self._ticket, source.ctypes.data, out.ctypes.data, blocks, out.dtype == np.float16
        )


@njit(nogil=True, cache=True)
def _convert_blocks(
    ticket: NDArray[np.int64], source: int, out: int, blocks: int, narrow: bool
) -> None:
    while True:
        first = take_ticket(ticket) * _BLOCKS_A_UNIT
        if first >= blocks:
            return
        for block in range(first, min(first + _BLOCKS_A_UNIT, blocks)):
            if narrow:
                narrow_block(out + 2 * BLOCK * block, source + 4 * BLOCK * block)
            else:
                widen_block(out + 4 * BLOCK * block, source + 2 * BLOCK * block)
