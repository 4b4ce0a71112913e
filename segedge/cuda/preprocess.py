"""Preprocess: a frame in device memory to the network's input tensor, in one launch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry
from segedge.cuda.arguments import maps_of, pieces, plane_of, size_of
from segedge.cuda.overlay import LUMA_OF_RGB, Matrix
from segedge.cuda.runtime.program import Argument, Kernel, Launcher, Plane
from segedge.errors import UsageError, unknown_name_error
from segedge.reference.resize import UP_AT_BORDERS, half_width, is_box, is_rounded

PixelFormat = Literal["bgr", "rgb", "bgra", "rgba", "gray", "nv12"]

CHANNELS_OF: dict[PixelFormat, tuple[int, str]] = {
    "bgr": (3, "bgr"),
    "rgb": (3, "rgb"),
    "bgra": (4, "bgr"),
    "rgba": (4, "rgb"),
    "gray": (1, "gray"),
    "nv12": (12, "rgb"),
}
"""The kernels' number of a format, and the order of its channels (NV12: once converted)."""

_RULE = {"bilinear": 0, "nearest": 1}
"""The kernels' number of a rule: the others, 2, are filters with weights of their own."""
_FILTER = {"pillow-box": 1, "pillow-hamming": 2, "pillow-bicubic": 3, "pillow-lanczos": 4}
"""The kernels' number of a filter; 0 is the triangle."""


@dataclass(frozen=True)
class Color:
    """How NV12 values stand for colours."""

    matrix: Matrix = "bt709"
    full_range: bool = False
    """Whether luma fills 0..255, not 16..235."""

    def defines(self) -> dict[str, float]:
        """Constants of the conversion to RGB (ITU-R BT.601-7, BT.709-6), 0..255 in and out."""
        red, blue = LUMA_OF_RGB[self.matrix]
        green = 1.0 - red - blue
        gain, offset = (1.0, 0.0) if self.full_range else (255.0 / 219.0, 16.0)
        chroma = 1.0 if self.full_range else 255.0 / 224.0
        red_v, blue_u = 2.0 * (1.0 - red) * chroma, 2.0 * (1.0 - blue) * chroma
        return {
            "luma_gain": gain,
            "luma_offset": offset,
            "red_v": red_v,
            "green_u": blue_u * blue / green,
            "green_v": red_v * red / green,
            "blue_u": blue_u,
        }


class Preprocess:
    """Resizes, pads, reorders and normalises, as `segedge.reference.frame.preprocess` says.

    NV12 is resampled as it is and converted afterwards, without rounding in between, Pillow's rules
    or not. Its chroma is
    interpolated bilinearly with ``bilinear`` (sited as in H.264: level with even columns, between
    rows), taken from the same 2 x 2 block with ``nearest`` and repeated under wider filters.
    """

    def __init__(
        self,
        card: ModelCard,
        geometry: Geometry,
        *,
        pixel_format: PixelFormat = "bgr",
        dtype: DTypeLike = "float32",
        color: Color | None = None,
    ) -> None:
        """Work out index maps and constants for tensors of a dtype, float32 or float16.

        Raises:
            UsageError: Another dtype or pixel format.
        """
        if pixel_format not in CHANNELS_OF:
            raise unknown_name_error("pixel format", pixel_format, tuple(CHANNELS_OF))
        self._dtype = np.dtype(dtype)
        if self._dtype not in (np.float32, np.float16):
            raise UsageError(f"no input of type {dtype}", facts={"expected": "float32, float16"})
        self._card = card
        self._geometry = geometry
        self._format = pixel_format
        self._color = color or Color()
        self._is_halving = _is_halving(card, geometry, pixel_format)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of one image's tensor: 1 x 3 x H x W, or 1 x H x W x 3."""
        height, width = self._geometry.network.height, self._geometry.network.width
        return (1, height, width, 3) if self._card.input_layout == "nhwc" else (1, 3, height, width)

    def run(
        self,
        launcher: Launcher,
        frame: Plane,
        tensor: int,
        *,
        chroma: Plane | None = None,
        batch_index: int = 0,
    ) -> None:
        """Fill one image of the tensor at a device address, aligned to 16 bytes.

        ``frame`` is the pixels or the luma of NV12, ``chroma`` its interleaved U and V.

        Raises:
            UsageError: NV12 without chroma, or chroma without NV12.
        """
        if (chroma is not None) != (self._format == "nv12"):
            raise UsageError(
                "NV12 frames have two planes, other frames one",
                facts={"format": self._format, "found": "2" if chroma else "1"},
            )
        size = 3 * self._geometry.network.height * self._geometry.network.width
        target = tensor + batch_index * size * self._dtype.itemsize
        if self._is_halving and frame.is_aligned(8) and target % (4 * self._dtype.itemsize) == 0:
            self._launch_halving(launcher, frame, target)
        else:
            self._launch_any(launcher, frame, chroma, target)

    def _launch_any(
        self, launcher: Launcher, frame: Plane, chroma: Plane | None, target: int
    ) -> None:
        network, source = self._geometry.network, self._geometry.frame
        maps = self._geometry.frame_from_network()
        rule, uv = self._card.resize, chroma or Plane(0, 0)
        arguments: list[Argument] = [
            *plane_of(frame), *plane_of(chroma), *size_of(source), *maps_of(maps, self._shift),
            *(np.float32(half_width(rule, axis.scale)) for axis in (maps.y, maps.x)),
            *map(np.int32, self._geometry.content()), target, *size_of(network),
            np.float32(self._card.pad_value), *self._normalisation(1),
        ]  # fmt: skip
        if rule == "pillow-box":
            scales = (np.float64(axis.scale) for axis in (maps.y, maps.x))
            arguments += [*scales, np.int32(-self._geometry.top), np.int32(-self._geometry.left)]
        grid = (pieces(network.width, 64), pieces(network.height, 8))
        launcher(self._kernel(self._is_aligned(frame, uv)), grid, (32, 8), arguments)

    def _launch_halving(self, launcher: Launcher, frame: Plane, target: int) -> None:
        network, geometry = self._geometry.network, self._geometry
        arguments: list[Argument] = [
            *plane_of(frame), *map(np.int32, geometry.content()), target, *size_of(network),
            np.float32(4 * self._card.pad_value), *self._normalisation(4),
            np.int32(-geometry.top), np.int32(-geometry.left),
        ]  # fmt: skip
        kernel = Kernel.of(
            "preprocess_halve",
            ("common.cu", "preprocess_halve.cu"),
            half=self._dtype == np.float16,
            **self._sources(),
        )
        grid = (pieces(network.width, 128), pieces(network.height, 8))
        launcher(kernel, grid, (32, 8), arguments)

    def _kernel(self, aligned: bool) -> Kernel:
        maps = self._geometry.frame_from_network()
        rule = self._card.resize
        extra: dict[str, Any] = self._color.defines() if self._format == "nv12" else {}
        if rule not in _RULE:
            extra |= {"box_y": is_box(rule, maps.y.scale), "box_x": is_box(rule, maps.x.scale)}
            # Y, U and V are not what Pillow rounds: it never sees them.
            rounded = is_rounded(rule) and self._format != "nv12"
            extra |= {"filter": _FILTER.get(rule, 0), "rounded": rounded}
        return Kernel.of(
            "preprocess",
            ("common.cu", "preprocess.cu"),
            rule=_RULE.get(rule, 2),
            format=CHANNELS_OF[self._format][0],
            half=self._dtype == np.float16,
            nhwc=self._card.input_layout == "nhwc",
            aligned=aligned,
            pad_mean=self._card.pad_mean,
            **self._sources(),
            **extra,
        )

    @property
    def _shift(self) -> float:
        return 0.5 + UP_AT_BORDERS if self._card.resize == "nearest" else 0.0

    def _is_aligned(self, frame: Plane, chroma: Plane) -> bool:
        row_bytes = self._geometry.frame.width * (CHANNELS_OF[self._format][0] % 9)
        return frame.is_aligned(4) and row_bytes % 4 == 0 and chroma.is_aligned(2)

    def _sources(self) -> dict[str, int]:
        """Which frame channel goes to each of the tensor's."""
        order = CHANNELS_OF[self._format][1]
        wanted = self._card.color
        return {f"source_{k}": 0 if order == "gray" else order.index(wanted[k]) for k in range(3)}

    def _normalisation(self, pixels: int) -> list[np.float32]:
        """(value / 255 - mean) / std as three factors and three biases; value is a sum."""
        std, mean = np.array(self._card.std), np.array(self._card.mean)
        numbers = np.concatenate([1.0 / (255.0 * std * pixels), -mean / std])
        return list(numbers.astype(np.float32))


def _is_halving(card: ModelCard, geometry: Geometry, pixel_format: PixelFormat) -> bool:
    """Whether this is the mean of 2 x 2 pixels, in pieces that the fast kernel can take."""
    frame, resized = geometry.frame, geometry.resized
    exact = (frame.height, frame.width) == (2 * resized.height, 2 * resized.width)
    _, left, _, right = geometry.content()
    in_fours = all(x % 4 == 0 for x in (left, right, geometry.left, geometry.network.width))
    return (
        exact
        and in_fours
        and CHANNELS_OF[pixel_format][0] == 3
        and card.resize in ("bilinear", "area")
        and card.input_layout == "nchw"
        and not card.pad_mean
    )
