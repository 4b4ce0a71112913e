"""Counting pairs of labels: a run at a time, in one pass, where NumPy needs five."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segedge.cpu.kernels.cells import KERNEL, Ints, Longs

_FAR = np.iinfo(np.int32)


@njit(**KERNEL)
def count_pairs(
    truth: Ints, prediction: Ints, ignore: int, matrix: Longs, no_truth: Longs, no_prediction: Longs
) -> None:
    """Add each pixel to ``matrix[truth, prediction]``.

    Args:
        truth: Labels, flat.
        prediction: Labels, flat.
        ignore: Truth of this value does not count.
        matrix: Classes x classes, raised.
        no_truth: Lowest and highest of the counted true labels that name no class; widened.
        no_prediction: The same of predicted ones, where the truth does name a class.
    """
    count, size, i = matrix.shape[0], truth.size, 0
    while i < size:
        row, column, first = truth[i], prediction[i], i
        i += 1
        while i < size and truth[i] == row and prediction[i] == column:
            i += 1
        if row == ignore:
            continue
        if row < 0 or row >= count:
            no_truth[0], no_truth[1] = min(no_truth[0], row), max(no_truth[1], row)
        elif column < 0 or column >= count:
            no_prediction[0] = min(no_prediction[0], column)
            no_prediction[1] = max(no_prediction[1], column)
        else:
            matrix[row, column] += i - first


def as_labels(labels: NDArray[np.integer]) -> Ints:
    """Flat int32 labels, for one compiled kernel; what does not fit names no class either way."""
    if labels.dtype.itemsize > 4 or labels.dtype == np.uint32:
        labels = np.clip(labels, _FAR.min, _FAR.max)
    return np.ascontiguousarray(labels).reshape(-1).astype(np.int32, copy=False)
