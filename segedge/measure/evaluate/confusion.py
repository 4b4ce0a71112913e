"""The confusion matrix, and the scores that are made from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.tables import KERNEL, Ints, Longs
from segedge.errors import UsageError
from segedge.measure.datasets.mapping import IGNORED

_NOTHING = np.iinfo(np.int64).min
_NONE = (np.iinfo(np.int64).max, np.iinfo(np.int64).min)
"""Lowest and highest of nothing."""
_FAR = np.iinfo(np.int32)


class Confusion:
    """How many pixels of each true class got each predicted class.

    ``matrix[t, p]`` (int64) counts pixels of class t that were called p. The scores are those of
    Long, Shelhamer, Darrell (CVPR 2015), section 5; a class without a pixel in truth or prediction
    has none (NaN) and no part in the means, as in torchmetrics' ``average="macro"``.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """An empty matrix for these class names."""
        self.classes = tuple(classes)
        self.matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        self.ignored = np.zeros(len(self.classes), np.int64)
        """Pixels whose truth counts for nothing, by predicted class."""

    def add(
        self, truth: NDArray[Any], prediction: NDArray[Any], *, ignore: int | None = IGNORED
    ) -> None:
        """Count one image, labels of any one shape, but where the truth is ``ignore``."""
        if truth.shape != prediction.shape:
            raise UsageError(
                "truth and prediction have different sizes",
                facts={"truth": _size(truth), "prediction": _size(prediction)},
            )
        outside = [np.array(_NONE, np.int64) for _ in range(2)]
        matrix, ignored = np.zeros_like(self.matrix), np.zeros_like(self.ignored)
        _count_pairs(
            _as_labels(truth), _as_labels(prediction), _NOTHING if ignore is None else ignore,
            matrix, ignored, *outside,
        )  # fmt: skip
        for what, (low, high) in zip(("truth", "prediction"), outside, strict=True):
            if low <= high:
                raise UsageError(
                    f"the {what} holds labels that name no class",
                    facts={"found": f"{low}..{high}", "expected": f"0..{len(self.classes) - 1}"},
                )
        self.matrix += matrix
        self.ignored += ignored

    def merge(self, other: Confusion) -> None:
        """Add another's counts."""
        self.matrix += other.matrix
        self.ignored += other.ignored

    def mistakes(self, count: int) -> list[tuple[str, str, int]]:
        """The most frequent ones: true class, predicted class, pixels."""
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        rows, columns = np.unravel_index(order, wrong.shape)
        return [
            (self.classes[t], self.classes[p], int(wrong[t, p]))
            for t, p in zip(rows.tolist(), columns.tolist(), strict=True)
            if wrong[t, p]
        ]

    @property
    def pixels(self) -> int:
        """Pixels counted."""
        return int(self.matrix.sum())

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that do not count, 0..1; 0 for an empty matrix."""
        ignored = int(self.ignored.sum())
        return ignored / max(self.pixels + ignored, 1)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class, 0..1; NaN where it occurs nowhere."""
        hits = np.diag(self.matrix)
        return _ratio(hits, self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hits)

    @property
    def iou_per_class(self) -> dict[str, float | None]:
        """Class name to IoU, 0..1; None where the class occurs nowhere."""
        values = self.iou.tolist()
        return {
            name: None if np.isnan(value) else value
            for name, value in zip(self.classes, values, strict=True)
        }

    @property
    def miou(self) -> float:
        """Mean IoU of the classes that occur, 0..1; NaN for an empty matrix."""
        return _mean(self.iou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels with the right class, 0..1; NaN for an empty matrix."""
        return _mean(_ratio(np.diag(self.matrix).sum(), self.matrix.sum()))

    @property
    def mean_accuracy(self) -> float:
        """Mean recall of the classes that occur in the truth, 0..1; NaN for an empty matrix."""
        return _mean(_ratio(np.diag(self.matrix), self.matrix.sum(axis=1)))


def _ratio(part: Any, whole: Any) -> NDArray[np.float64]:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    ratio = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _size(labels: NDArray[Any]) -> str:
    return "x".join(map(str, labels.shape))


@njit(**KERNEL)
def _count_pairs(
    truth: Ints,
    prediction: Ints,
    ignore: int,
    matrix: Longs,
    ignored: Longs,
    no_truth: Longs,
    no_prediction: Longs,
) -> None:
    """Add each pixel to ``matrix[truth, prediction]``, a run at a time: NumPy needs five passes.

    Where the truth is ``ignore`` it is added to ``ignored[prediction]``.

    ``no_truth`` and ``no_prediction``, lowest and highest of the counted labels that name no class,
    are widened; of predicted ones where the truth does name a class.
    """
    count, size, i = matrix.shape[0], truth.size, 0
    while i < size:
        row, column, first = truth[i], prediction[i], i
        i += 1
        while i < size and truth[i] == row and prediction[i] == column:
            i += 1
        if row == ignore:
            if 0 <= column < count:
                ignored[column] += i - first
            continue
        if row < 0 or row >= count:
            no_truth[0], no_truth[1] = min(no_truth[0], row), max(no_truth[1], row)
        elif column < 0 or column >= count:
            no_prediction[0] = min(no_prediction[0], column)
            no_prediction[1] = max(no_prediction[1], column)
        else:
            matrix[row, column] += i - first


def _as_labels(labels: NDArray[np.integer]) -> Ints:
    """Flat int32 labels, for one compiled kernel; what does not fit names no class either way."""
    if labels.dtype.itemsize > 4 or labels.dtype == np.uint32:
        labels = np.clip(labels, _FAR.min, _FAR.max)
    return np.ascontiguousarray(labels).reshape(-1).astype(np.int32, copy=False)
