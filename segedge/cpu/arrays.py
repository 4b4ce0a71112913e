"""Arrays that are handed in: their checks, addresses and flat forms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cpu.half import Converter
from segedge.cpu.workers import Workers
from segedge.errors import ModelError, UsageError


def address_of(array: NDArray[Any]) -> int:
    """Address of the first element (``array.ctypes.data``, several times faster)."""
    address: int = array.__array_interface__["data"][0]
    return address


def check_plane(name: str, array: NDArray[Any], size: Size, *dtypes: Any) -> None:
    """Demand height x width of one of the types, rows at any distance, pixels contiguous.

    Raises:
        UsageError: It is something else.
    """
    _check(name, array, (size.height, size.width), dtypes)


def check_image(name: str, array: NDArray[Any], size: Size) -> None:
    """Demand height x width x 3 uint8, rows at any distance, pixels contiguous.

    Raises:
        UsageError: It is something else.
    """
    _check(name, array, (size.height, size.width, 3), (np.uint8,))


def readable_image(name: str, image: NDArray[Any], size: Size) -> NDArray[np.uint8]:
    """The image, or a copy of it if its pixels are not contiguous (a flipped channel order).

    Raises:
        UsageError: It is not height x width x 3 uint8.
    """
    if image.dtype == np.uint8 and image.ndim == 3 and not _rows_are_contiguous(image):
        image = np.ascontiguousarray(image)
    check_image(name, image, size)
    return image


def _rows_are_contiguous(array: NDArray[Any]) -> bool:
    """Whether the pixels of a row lie side by side; axes of length one have any stride."""
    expected = array.itemsize
    for axis in range(array.ndim - 1, 0, -1):
        if array.shape[axis] != 1 and array.strides[axis] != expected:
            return False
        expected *= array.shape[axis]
    return True


def _check(name: str, array: NDArray[Any], shape: tuple[int, ...], dtypes: tuple[Any, ...]) -> None:
    if array.shape == shape and array.dtype in dtypes and _rows_are_contiguous(array):
        return
    kinds = " or ".join(np.dtype(dtype).name for dtype in dtypes)
    raise UsageError(
        f"the array for {name} does not fit",
        facts={
            "expected": f"{'x'.join(map(str, shape))} {kinds}, contiguous within a row",
            "found": f"{'x'.join(map(str, array.shape))} {array.dtype}, strides {array.strides}",
        },
    )


class FlatOutput:
    """A network's output as one flat array and strides, copied only where it must be converted."""

    def __init__(self, card: ModelCard, grid: Size, workers: Workers) -> None:
        """Expect what the card says, on this grid."""
        self._converter = Converter(workers)
        self._is_labels = card.head == "labels"
        self.channels = 1 if self._is_labels else card.channels
        self.sigmoid = card.activation == "sigmoid"
        self.size = self.channels * grid.height * grid.width
        rows, columns, channels = grid.height, grid.width, self.channels
        if card.logits_layout == "nhwc":
            self._shape: tuple[int, ...] = (1, rows, columns, channels)
            self.strides = np.array([1, columns * channels, channels], np.int64)
        else:
            self._shape = (1, channels, rows, columns)
            self.strides = np.array([rows * columns, columns, 1], np.int64)
        self._shapes = [self._shape, self._shape[1:]]
        if self._is_labels:
            self._shapes += [(1, rows, columns), (rows, columns)]
        self._dtype = np.dtype(np.int64 if self._is_labels else np.float32)
        self._converted: NDArray[Any] = np.empty(0, self._dtype)
        self.flat = self._converted
        """float32 logits, or int64 labels, in the order of `strides`."""

    def take(self, output: NDArray[Any]) -> None:
        """Set `flat` to this output.

        Raises:
            ModelError: Its shape or type is not what the card and the grid say.
        """
        if output.shape not in self._shapes or output.dtype.kind not in "fiub":
            raise ModelError(
                "the network's output does not fit its card",
                facts={
                    "expected": f"{'x'.join(map(str, self._shape))} numbers",
                    "found": f"{'x'.join(map(str, output.shape))} {output.dtype}",
                },
            )
        if output.dtype == self._dtype and output.flags.c_contiguous:
            self.flat = output.reshape(-1)
            return
        if self._converted.size == 0:
            self._converted = np.empty(self.size, self._dtype)
        self.flat = self._converted
        if output.dtype == np.float16 and output.flags.c_contiguous and not self._is_labels:
            self._converter.run(output, self.flat)
            return
        np.copyto(self.flat.reshape(output.shape), output, casting="unsafe")

    def release(self) -> None:
        """Forget the output."""
        self.flat = self._converted
