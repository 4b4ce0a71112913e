"""ArrayPool: memory comes back, and never too early."""

from __future__ import annotations

import numpy as np

from cpu.cases import in_threads
from segedge.cpu.memory import ArrayPool


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def test_memory_is_used_again_after_the_array_died():
    pool = ArrayPool()
    array = pool.take((4, 5, 3), np.uint8)
    assert array.shape == (4, 5, 3)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    where = address(array)
    assert where % 64 == 0
    del array
    assert pool.free_blocks() == 1
    assert address(pool.take((60,), np.uint8)) == where  # any shape of the same size


def test_views_keep_memory_alive():
    pool = ArrayPool()
    array = pool.take((10, 10), np.float32)
    array[:] = 1.0
    views = [array[2:4], array.T[3], array.reshape(-1)[50:], memoryview(array)]
    del array
    while views:
        assert pool.free_blocks() == 0
        fresh = pool.take((10, 10), np.float32)
        fresh[:] = 2.0
        for view in views:
            assert np.all(np.asarray(view) == 1.0)
        del view
        views.pop()
        assert pool.free_blocks() == (0 if views else 1)
        del fresh
        pool.clear()


def test_no_more_than_asked_is_kept():
    pool = ArrayPool(keep=2)
    arrays = [pool.take((8,), np.int64) for _ in range(5)]
    arrays.clear()
    assert pool.free_blocks() == 2


def test_arrays_may_outlive_the_pool():
    array = ArrayPool().take((3,), np.int64)
    array[:] = 7
    assert array.sum() == 21


def test_threads_never_share_an_array():
    pool = ArrayPool(keep=3)
    wrong: list[int] = []

    def work(mark: int) -> None:
        for _ in range(2000):
            array = pool.take((16,), np.int64)
            array[:] = mark
            if np.any(array != mark):
                wrong.append(mark)

    in_threads(work)
    assert wrong == []
