"""A frame on the CPU as the planes that a GPU takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.cuda.foreign import Nv12Frame
from segedge.cuda.preprocess import CHANNELS_OF, PixelFormat
from segedge.errors import UsageError, unknown_name_error
from segedge.segment.fitting import checked_image


def host_planes(
    image: Any, pixel_format: PixelFormat
) -> tuple[tuple[NDArray[np.uint8], ...], PixelFormat]:
    """The planes of an image, or of an `Nv12Frame`, and what format they have."""
    if isinstance(image, Nv12Frame):
        luma, chroma = np.asarray(image.luma), np.asarray(image.chroma)
        half = (luma.shape[0] // 2, luma.shape[1]) if luma.ndim == 2 else None
        if half is None or chroma.size != half[0] * half[1] or luma.dtype != np.uint8:
            raise UsageError(
                "NV12 chroma does not fit its luma",
                facts={"luma": str(luma.shape), "chroma": str(chroma.shape)},
            )
        return (luma, chroma.reshape(half)), "nv12"
    if pixel_format in ("bgr", "rgb"):
        return (checked_image(image),), pixel_format
    if pixel_format not in CHANNELS_OF:
        raise unknown_name_error("pixel format", pixel_format, tuple(CHANNELS_OF))
    array, channels = np.asarray(image), CHANNELS_OF[pixel_format][0]
    wanted = "H x W" if channels == 1 else f"H x W x {channels}"
    if (
        array.dtype != np.uint8
        or 0 in array.shape
        or array.shape[2:] != (channels,)[channels == 1 :]
    ):
        raise UsageError(
            f"a {pixel_format} frame must be {wanted} uint8",
            facts={"found": f"{'x'.join(map(str, array.shape))} {array.dtype}"},
        )
    return (array,), pixel_format
