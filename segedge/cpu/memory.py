"""ArrayPool: arrays that the user owns, from memory that is used again.

A fresh 6 MB array costs more in page faults than the kernel that fills it. Here the memory of an
array returns to the pool when its last view dies, so results can be kept as long as one likes and
steady state allocates nothing.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_ALIGNMENT = 64


class ArrayPool:
    """Hands out C-contiguous, uninitialised arrays. Safe from several threads."""

    def __init__(self, keep: int = 8) -> None:
        """Start empty; of each size in bytes ``keep`` free blocks stay, others go back."""
        self._keep = keep
        self._free: dict[int, deque[NDArray[np.uint8]]] = {}

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of this shape and type; its contents are undefined."""
        kind = np.dtype(dtype)
        size = max(1, math.prod(shape) * kind.itemsize)
        # deque's append and pop are atomic, and append drops the oldest beyond maxlen. A lock
        # would deadlock when the garbage collector ends a lease inside it.
        free = self._free.setdefault(size, deque(maxlen=self._keep))
        try:
            block = free.pop()
        except IndexError:
            block = _aligned_block(size)
        return np.asarray(_Lease(block, free, shape, kind))

    def free_blocks(self) -> int:
        """How many blocks wait to be used again."""
        return sum(len(blocks) for blocks in self._free.values())

    def clear(self) -> None:
        """Give the free blocks back to the system."""
        for blocks in list(self._free.values()):
            blocks.clear()


class _Lease:
    """Base object of an array; NumPy keeps it alive as long as any view of the array lives."""

    __slots__ = ("__array_interface__", "_block", "_free")

    def __init__(
        self,
        block: NDArray[np.uint8],
        free: deque[NDArray[np.uint8]],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self._block = block
        self._free = free
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (block.ctypes.data, False),
        }

    def __del__(self) -> None:
        self._free.append(self._block)


def _aligned_block(size: int) -> NDArray[np.uint8]:
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size]
