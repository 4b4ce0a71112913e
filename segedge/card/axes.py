"""Axis orders of images and logits: where rows, columns and channels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from segedge.card.geometry import Size

Layout = Literal["nchw", "nhwc"]


def rows_axis(layout: Layout) -> int:
    """The axis of the rows; that of the columns follows."""
    return 2 if layout == "nchw" else 1


def channel_axis(layout: Layout) -> int:
    """The axis of the channels or classes."""
    return 1 if layout == "nchw" else 3


def shape_text(shape: Sequence[int | str | None]) -> str:
    """``1x3x?x?``: a shape for people, None being an axis that is not known."""
    return "x".join("?" if axis is None else str(axis) for axis in shape)


def image_shape(
    layout: Layout, size: Size, *, channels: int = 3, batch: int = 1
) -> tuple[int, int, int, int]:
    """Shape of a tensor of images."""
    plane = (size.height, size.width)
    return (batch, channels, *plane) if layout == "nchw" else (batch, *plane, channels)
