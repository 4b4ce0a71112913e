"""Preprocess: a BGR frame to the network's input tensor in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, Geometry
from segedge.cpu.arrays import Converter, address_of, readable_image, rows_of
from segedge.cpu.code import Code, kernels
from segedge.cpu.kernels.tables import BLOCK, LANES, Between, Taps, Tensor
from segedge.cpu.workers import Task, Workers, shared_workers
from segedge.errors import UsageError
from segedge.reference.resize import axis_taps, is_rounded

_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


class Preprocess:
    """Resizes, pads, reorders and normalises, as `segedge.reference.frame.preprocess` says.

    Made for one geometry; used by one thread at a time, different objects concurrently.
    """

    def __init__(
        self,
        card: ModelCard,
        geometry: Geometry,
        *,
        workers: Workers | None = None,
        dtype: DTypeLike = "float32",
        code: Code = kernels,
    ) -> None:
        """Prepare tables and scratch for tensors of a dtype, float32 or float16.

        Raises:
            UsageError: Another dtype.
        """
        self._code = code
        self._dtype = np.dtype(dtype)
        if self._dtype not in (np.float32, np.float16):
            raise UsageError(f"no input of type {dtype}", facts={"expected": "float32, float16"})
        self._frame = geometry.frame
        self._size = geometry.network
        self._workers = workers or shared_workers()
        self._channels_last = card.input_layout == "nhwc"
        top, left, bottom, right = geometry.content()
        source = geometry.frame_from_network()
        self._rows = _taps(card, source.y, range(top, bottom), self._frame.height)
        columns = _taps(card, source.x, range(left, right), self._frame.width)
        halves = _is_half(self._rows) and _is_half(columns) and right - left >= BLOCK
        self._halve = halves and not is_rounded(card.resize)
        self._columns = _at_least(LANES, columns)
        self._between = _between(self._rows, self._columns) if is_rounded(card.resize) else None
        self._target = Tensor(
            self._size.height, self._size.width, top, left, right - left, self._channels_last,
            card.color == "rgb", self._halve, *_normalisation(card, 4 if self._halve else 1),
        )  # fmt: skip
        self._ticket = np.zeros(1, np.int64)
        threads, count = range(self._workers.count), self._columns.first.size
        longest = 3 * max(self._frame.width, count) + 1
        self._mixed = [np.zeros(longest, np.float32) for _ in threads]
        self._planes = [np.zeros((3, count), np.float32) for _ in threads]
        self._single = np.zeros(self.shape if self._dtype == np.float16 else 0, np.float32)
        self._converter = Converter(self._workers, code)
        self._image = _NO_IMAGE
        self._tensor = self._single

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor: 1 x 3 x H x W, or 1 x H x W x 3."""
        height, width = self._size.height, self._size.width
        return (1, height, width, 3) if self._channels_last else (1, 3, height, width)

    def run(self, frame: NDArray[np.uint8], tensor: NDArray[Any]) -> None:
        """Fill a C-contiguous tensor of `shape` and the constructor's dtype from a BGR frame.

        Rows of the frame may be strided, other strides cost a copy.

        Raises:
            UsageError: An array has a wrong shape, type or layout.
        """
        fits = tensor.shape == self.shape and tensor.dtype == self._dtype
        if not (fits and tensor.flags.c_contiguous):
            raise UsageError(
                "the array for the network's input does not fit",
                facts={
                    "expected": f"{'x'.join(map(str, self.shape))} {self._dtype}, contiguous",
                    "found": f"{'x'.join(map(str, tensor.shape))} {tensor.dtype}",
                },
            )
        self._image = readable_image("the frame", frame, self._frame)
        self._tensor = self._single if self._dtype == np.float16 else tensor
        if self._between is None:
            self._share(self._resample)
        else:
            self._share(self._resample_rows)
            self._share(self._mix_levels)
        if self._dtype == np.float16:
            self._converter.run(self._single, tensor)
        # The caller's arrays are forgotten, so that their memory can go back to its pool.
        self._image, self._tensor = _NO_IMAGE, self._single

    def _share(self, task: Task) -> None:
        self._ticket[0] = 0
        self._workers.run(task)

    def _resample_rows(self, participant: int) -> None:
        self._code().resample_rows(
            self._ticket, rows_of(self._image), self._columns, self._between,
            self._mixed[participant], self._planes[participant],
        )  # fmt: skip

    def _mix_levels(self, participant: int) -> None:
        self._code().mix_levels(
            self._ticket, self._between, self._rows, self._target, address_of(self._tensor),
            self._mixed[participant], self._planes[participant],
        )  # fmt: skip

    def _resample(self, participant: int) -> None:
        self._code().resample(
            self._ticket, rows_of(self._image), self._rows, self._columns, self._target,
            address_of(self._tensor), self._mixed[participant], self._planes[participant],
        )  # fmt: skip


def _taps(card: ModelCard, axis: AxisMap, outputs: range, length: int) -> Taps:
    """The card's rule inside the image, all windows as wide as the widest."""
    index, weights = axis_taps(card.resize, axis, outputs, length)
    index = np.clip(index, 0, length - 1)
    used = weights != 0.0
    low = np.where(used, index, length).min(axis=1)
    high = np.where(used, index, -1).max(axis=1)
    width = int((high - low).max()) + 1
    # A window that lies on one pixel begins behind those after it: the kernels want them in order.
    first = np.minimum.accumulate(np.minimum(low, length - width)[::-1])[::-1]
    table = np.zeros((index.shape[0], width))
    rows = np.broadcast_to(np.arange(index.shape[0])[:, None], index.shape)
    np.add.at(table, (rows[used], (index - first[:, None])[used]), weights[used])
    return Taps(first.astype(np.int32), table.astype(np.float32))


def _between(rows: Taps, columns: Taps) -> Between:
    """Memory for the rows of the frame that any row of the tensor reads, resampled along x."""
    first = int(rows.first.min())
    end = int(rows.first.max()) + rows.weights.shape[1]
    levels = np.zeros((end - first, 3 * columns.first.size), np.uint8)
    identity = np.repeat(np.array([1.0, 0.0], np.float32), 3)
    return Between(levels, first, identity, np.ones(1, np.float32))


def _is_half(taps: Taps) -> bool:
    """Whether an axis takes the mean of pixels 2i and 2i + 1, in step."""
    if taps.weights.shape[1] != 2 or not np.all(np.abs(taps.weights - 0.5) < 1e-6):
        return False
    return bool(np.all(np.diff(taps.first) == 2))


def _at_least(count: int, taps: Taps) -> Taps:
    """The table, its last pixel repeated until there are ``count``."""
    missing = max(0, count - taps.first.size)
    first = np.pad(taps.first, (0, missing), mode="edge")
    return Taps(first, np.pad(taps.weights, ((0, missing), (0, 0)), mode="edge"))


def _normalisation(card: ModelCard, pixels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(value / 255 - mean) / std as factors and biases, in BGR; normalised border values.

    ``pixels`` is how many pixels the kernel sums up without dividing.
    """
    factor = 1.0 / (255.0 * np.array(card.std))
    bias = -np.array(card.mean) / np.array(card.std)
    borders = np.zeros(3) if card.pad_mean else card.pad_value * factor + bias
    order = slice(None, None, -1) if card.color == "rgb" else slice(None)
    affine = np.concatenate([factor[order] / pixels, bias[order]])
    return affine.astype(np.float32), borders.astype(np.float32)
