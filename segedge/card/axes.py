"""Axis orders of images and logits: where rows, columns and channels are."""

from __future__ import annotations

from typing import Literal

from segedge.card.geometry import Size

Layout = Literal["nchw", "nhwc"]


def rows_axis(layout: Layout) -> int:
    """The axis of the rows; that of the columns follows."""
    return 2 if layout == "nchw" else 1


def channel_axis(layout: Layout) -> int:
    """The axis of the channels or classes."""
    return 1 if layout == "nchw" else 3


def image_shape(
    layout: Layout, size: Size, *, channels: int = 3, batch: int = 1
) -> tuple[int, int, int, int]:
    """Shape of a tensor of images."""
    plane = (size.height, size.width)
    return (batch, channels, *plane) if layout == "nchw" else (batch, *plane, channels)
