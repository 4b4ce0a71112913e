"""Arrays that are handed in: their checks, addresses, flat forms and widths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cpu.code import Code, kernels
from segedge.cpu.kernels.tables import BLOCK, UNIT_BLOCKS, Logits, Rows, Strides
from segedge.cpu.workers import Workers
from segedge.errors import ModelError, UsageError

_NOTHING = (np.empty(0), np.empty(0))


def address_of(array: NDArray[Any]) -> int:
    """Address of the first element (``array.ctypes.data``, several times faster)."""
    address: int = array.__array_interface__["data"][0]
    return address


def rows_of(array: NDArray[Any]) -> Rows:
    """Address and bytes from one row to the next."""
    return address_of(array), array.strides[0]


def strides_of(layout: str, channels: int, size: Size) -> Strides:
    """Those of an image in a layout, nchw or nhwc."""
    if layout == "nhwc":
        return 1, size.width * channels, channels
    return size.height * size.width, size.width, 1


def check_plane(name: str, array: NDArray[Any], size: Size, *dtypes: Any) -> None:
    """Demand height x width of one of the types, rows at any distance, pixels contiguous."""
    _check(name, array, (size.height, size.width), dtypes)


def check_image(name: str, array: NDArray[Any], size: Size) -> None:
    """Demand height x width x 3 uint8, rows at any distance, pixels contiguous."""
    _check(name, array, (size.height, size.width, 3), (np.uint8,))


def readable_image(name: str, image: NDArray[Any], size: Size) -> NDArray[np.uint8]:
    """The image, or a copy of it if its pixels are not contiguous (a flipped channel order)."""
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


class Converter:
    """float16 <-> float32, shared among threads; NumPy's own takes ten times as long."""

    def __init__(self, workers: Workers, code: Code = kernels) -> None:
        """Prepare."""
        self._workers, self._code = workers, code
        self._ticket = np.zeros(1, np.int64)
        self._arrays: tuple[NDArray[Any], NDArray[Any]] = _NOTHING

    def run(self, source: NDArray[Any], out: NDArray[Any]) -> None:
        """Convert contiguous arrays of equal size, one float32, the other float16."""
        source, out = source.reshape(-1), out.reshape(-1)
        whole = source.size // BLOCK * BLOCK if self._code().HAS_HALF else 0
        if whole:
            self._arrays = (source, out)
            self._ticket[0] = 0
            if whole <= UNIT_BLOCKS * BLOCK:
                self._convert(0)
            else:
                self._workers.run(self._convert)
            self._arrays = _NOTHING
        np.copyto(out[whole:], source[whole:], casting="same_kind")

    def _convert(self, participant: int) -> None:
        source, out = self._arrays
        blocks = source.size // BLOCK
        kernels().convert_blocks(
            self._ticket, source.ctypes.data, out.ctypes.data, blocks, out.dtype == np.float16
        )


class FlatOutput:
    """A network's output as one flat array and strides, copied only where it must be converted."""

    def __init__(self, card: ModelCard, grid: Size, workers: Workers, code: Code = kernels) -> None:
        """Expect what the card says, on this grid."""
        self._converter = Converter(workers, code)
        self._is_labels = card.head == "labels"
        self.channels = 1 if self._is_labels else card.channels
        self._sigmoid = card.activation == "sigmoid"
        self.size = self.channels * grid.height * grid.width
        rows, columns, channels = grid.height, grid.width, self.channels
        is_nhwc = card.logits_layout == "nhwc"
        self.strides = strides_of(card.logits_layout, channels, grid)
        self.shape = (1, rows, columns, channels) if is_nhwc else (1, channels, rows, columns)
        self._shapes: list[tuple[int, ...]] = [self.shape, self.shape[1:]]
        if self._is_labels:
            self._shapes += [(1, rows, columns), (rows, columns)]
        self._dtype = np.dtype(np.int64 if self._is_labels else np.float32)
        self._converted: NDArray[Any] = np.empty(0, self._dtype)
        self.flat = self._converted
        """float32 logits, or int64 labels, in the card's layout."""
        self._logits: Logits | None = None

    @property
    def logits(self) -> Logits:
        """What was taken, for the kernels."""
        if self._logits is None:
            self._logits = Logits(self.flat, self.strides, self.channels, self._sigmoid)
        return self._logits

    def take(self, output: NDArray[Any]) -> None:
        """Set `flat` to this output.

        Raises:
            ModelError: Its shape or type is not what the card and the grid say.
        """
        if output.shape not in self._shapes or output.dtype.kind not in "fiub":
            raise ModelError(
                "the network's output does not fit its card",
                facts={
                    "expected": f"{'x'.join(map(str, self.shape))} numbers",
                    "found": f"{'x'.join(map(str, output.shape))} {output.dtype}",
                },
            )
        self._logits = None
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
        self.flat, self._logits = self._converted, None
