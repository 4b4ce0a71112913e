"""Preprocess: a BGR frame to the network's input tensor in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry
from segedge.cpu.arrays import address_of, readable_image
from segedge.cpu.half import Converter
from segedge.cpu.kernels import resample
from segedge.cpu.kernels.simd import BLOCK, LANES
from segedge.cpu.taps import Taps, axis_taps
from segedge.cpu.workers import Workers, shared_workers
from segedge.errors import UsageError

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
    ) -> None:
        """Prepare tables and scratch.

        Args:
            card: What the network's input means.
            geometry: How the frame lies in the network's input.
            workers: Threads to share the work; the process-wide pool by default.
            dtype: float32 or float16, the type of the tensor.

        Raises:
            UsageError: Another dtype.
        """
        self._dtype = np.dtype(dtype)
        if self._dtype not in (np.float32, np.float16):
            raise UsageError(f"no input of type {dtype}", facts={"expected": "float32, float16"})
        self._frame = geometry.frame
        self._size = geometry.network
        self._workers = workers or shared_workers()
        self._channels_last = card.input_layout == "nhwc"
        self._top, self._left, bottom, right = geometry.content()
        source = geometry.frame_from_network()
        self._rows = axis_taps(card.resize, source.y, self._top, bottom, self._frame.height)
        self._columns = axis_taps(card.resize, source.x, self._left, right, self._frame.width)
        self._content = right - self._left
        self._halve = _is_half(self._rows) and _is_half(self._columns) and self._content >= BLOCK
        self._columns = _at_least(LANES, self._columns)
        self._reverse = card.color == "rgb"
        self._affine, self._borders = _normalisation(card, 4 if self._halve else 1)
        self._ticket = np.zeros(1, np.int64)
        threads, columns = range(self._workers.count), self._columns.first.size
        self._mixed = [np.zeros(3 * self._frame.width + 1, np.float32) for _ in threads]
        self._planes = [np.zeros((3, columns), np.float32) for _ in threads]
        self._single = np.zeros(self.shape if self._dtype == np.float16 else 0, np.float32)
        self._converter = Converter(self._workers)
        self._image = _NO_IMAGE
        self._tensor = self._single

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor: 1 x 3 x H x W, or 1 x H x W x 3."""
        height, width = self._size.height, self._size.width
        return (1, height, width, 3) if self._channels_last else (1, 3, height, width)

    def run(self, image_hwc: NDArray[np.uint8], out: NDArray[Any]) -> None:
        """Fill a tensor from a frame.

        Args:
            image_hwc: H x W x 3 uint8 BGR; rows may be strided, other strides cost a copy.
            out: C-contiguous tensor of `shape` and the constructor's dtype.

        Raises:
            UsageError: An array has a wrong shape, type or layout.
        """
        if out.shape != self.shape or out.dtype != self._dtype or not out.flags.c_contiguous:
            raise UsageError(
                "the array for the network's input does not fit",
                facts={
                    "expected": f"{'x'.join(map(str, self.shape))} {self._dtype}, contiguous",
                    "found": f"{'x'.join(map(str, out.shape))} {out.dtype}",
                },
            )
        self._image = readable_image("the frame", image_hwc, self._frame)
        self._tensor = self._single if self._dtype == np.float16 else out
        self._ticket[0] = 0
        self._workers.run(self._resample)
        if self._dtype == np.float16:
            self._converter.run(self._single, out)
        # The caller's arrays are forgotten, so that their memory can go back to its pool.
        self._image, self._tensor = _NO_IMAGE, self._single

    def _resample(self, participant: int) -> None:
        resample.resample(
            self._ticket, address_of(self._image), self._image.strides[0],
            self._rows.first, self._rows.weights, self._columns.first, self._columns.weights,
            self._halve, self._affine, self._borders, self._reverse,
            address_of(self._tensor), self._size.height, self._size.width, self._top, self._left,
            self._channels_last, self._mixed[participant], self._planes[participant],
            self._content,
        )  # fmt: skip


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
    borders = card.pad_value * factor + bias
    order = slice(None, None, -1) if card.color == "rgb" else slice(None)
    affine = np.concatenate([factor[order] / pixels, bias[order]])
    return affine.astype(np.float32), borders.astype(np.float32)
