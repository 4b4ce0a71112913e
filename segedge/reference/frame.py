"""The slow truth: what every fast path must compute, in plain NumPy and float64.

Preprocessing resamples the raw 0..255 values, but for the rules named after Pillow without rounding
in between. OpenCV rounds the resized image to whole levels first, so a network trained behind it
sees values that differ by up to half a level; torch and the kernels of this package do not round.

Logits that are NaN or minus infinity count as -1e30 and plus infinity as 1e30: NaN never wins, and
neither spreads to neighbours through a weight of zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, Geometry, Size
from segedge.errors import ModelError
from segedge.reference.resize import resample

ConfidenceKind = Literal["probability", "margin"]

TIE = 1e-4
"""Top-2 margin, as a share of the logits' range, below which a pixel's label is ambiguous."""
LEAST = 1e-30
"""What a class has at least, where the output holds probabilities and their logarithm is taken."""
LEAST_ODDS = 1e-6
"""The same where the output is the sigmoid of one class, and the other one's is 1 less it."""
_HUGE = 1e30


# --------------------------------------------------------------------------- preprocessing


def preprocess(
    image_hwc: NDArray[np.uint8], card: ModelCard, geometry: Geometry
) -> NDArray[np.float32]:
    """The network's input for a BGR frame: 1 x 3 x H x W, or NHWC as the card says, float32."""
    top, left, bottom, right = geometry.content()
    source = geometry.frame_from_network()
    rows, columns = range(top, bottom), range(left, right)
    planes = image_hwc.astype(np.float64).transpose(2, 0, 1)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (card.mean, card.std))
    border = 255.0 * mean if card.pad_mean else np.full((3, 1, 1), float(card.pad_value))
    size = (3, geometry.network.height, geometry.network.width)
    network = np.broadcast_to(border, size).copy()
    content = resample(planes, card.resize, source, rows, columns)
    network[:, top:bottom, left:right] = content[::-1] if card.color == "rgb" else content
    tensor = ((network / 255.0 - mean) / std).astype(np.float32)
    if card.input_layout == "nhwc":
        tensor = tensor.transpose(1, 2, 0)
    return np.ascontiguousarray(tensor[None])


# --------------------------------------------------------------------------- tail


def labels(output: NDArray[Any], card: ModelCard, geometry: Geometry) -> NDArray[Any]:
    """The label of every frame pixel, H x W; the first of equal logits wins.

    Pixels that the network does not see have the highest label of `label_dtype`.

    ``output`` is 1 x C x Gh x Gw or NHWC as the card says, or integers for ``head="labels"``.
    """
    dtype = label_dtype(card.classes)
    if card.head == "labels":
        found = _nearest_labels(output, card, geometry, int(np.iinfo(dtype).max))
    else:
        found = np.argmax(interpolate(output, card, geometry), axis=0)
    unseen = np.full(found.shape, np.iinfo(dtype).max, dtype)
    seen = _seen(geometry)
    unseen[seen] = found[seen]
    return unseen


def _seen(geometry: Geometry) -> tuple[slice, slice]:
    """What the network sees of a frame."""
    top, left, bottom, right = geometry.seen()
    return slice(top, bottom), slice(left, right)


def label_dtype(classes: Sequence[str]) -> np.dtype[Any]:
    """uint8 for up to 256 classes, else uint16."""
    return np.dtype(np.uint8 if len(classes) <= 256 else np.uint16)


def argmax_grid(logits: NDArray[Any], card: ModelCard) -> NDArray[np.int64]:
    """Labels at the grid points, Gh x Gw."""
    return np.asarray(np.argmax(class_logits(logits, card), axis=0), np.int64)


def class_logits(logits: NDArray[Any], card: ModelCard) -> NDArray[np.float64]:
    """One finite plane a class, C x Gh x Gw; a sigmoid head's background has logit zero."""
    planes: NDArray[np.float64] = np.asarray(logits, np.float64).reshape(*logits.shape[-3:])
    if card.logits_layout == "nhwc":
        planes = planes.transpose(2, 0, 1)
    if planes.shape[0] != card.channels:
        raise ModelError(
            "the logits do not fit the card",
            facts={"expected": f"{card.channels} channels", "found": str(logits.shape)},
        )
    planes = np.clip(np.where(np.isnan(planes), -_HUGE, planes), -_HUGE, _HUGE)
    if card.activation == "sigmoid":
        planes = np.concatenate([np.zeros_like(planes), planes])
    return planes


def sure_logits(logits: NDArray[Any], card: ModelCard) -> NDArray[np.float64]:
    """Planes whose softmax is how sure the network is at the grid points, C x Gh x Gw.

    They are `class_logits`, but for an output that holds probabilities: of these they are the
    logarithms (of a sigmoid's, which are less a half, the log odds), at least of `LEAST`.
    """
    planes = class_logits(logits, card)
    if not card.probabilities:
        return planes
    if card.activation == "sigmoid":
        shares = (np.maximum(0.5 + sign * planes[1:], LEAST_ODDS) for sign in (1.0, -1.0))
        planes[1:] = np.subtract(*map(np.log, shares))
        return planes
    return np.log(np.maximum(planes, LEAST))


def interpolate(logits: NDArray[Any], card: ModelCard, geometry: Geometry) -> NDArray[np.float64]:
    """Logits of every class at every frame pixel, C x H x W, bilinear between grid points."""
    return _bilinear(class_logits(logits, card), card, geometry)


def interpolate_sure(
    logits: NDArray[Any], card: ModelCard, geometry: Geometry
) -> NDArray[np.float64]:
    """`sure_logits` at every frame pixel, C x H x W, bilinear between grid points."""
    return _bilinear(sure_logits(logits, card), card, geometry)


def interpolate_at(
    logits: NDArray[Any],
    card: ModelCard,
    geometry: Geometry,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """`interpolate` at some rows and columns of the frame only, by what these read of the grid."""
    is_nhwc = card.logits_layout == "nhwc"
    whole: NDArray[Any] = logits.reshape(logits.shape[-3:])
    height, width = whole.shape[:2] if is_nhwc else whole.shape[-2:]
    grid = Size(height, width)
    axis = geometry.grid_from_frame(grid, align_corners=card.align_corners).y
    low, high, _ = _between(axis, rows, grid.height)
    read = slice(int(low.min()), int(high.max()) + 1)
    planes = class_logits(whole[read] if is_nhwc else whole[:, read], card)
    return _bilinear(planes, card, geometry, rows, columns, grid=grid, first=read.start)


def _bilinear(
    planes: NDArray[np.float64],
    card: ModelCard,
    geometry: Geometry,
    rows: NDArray[np.int64] | None = None,
    columns: NDArray[np.int64] | None = None,
    *,
    grid: Size | None = None,
    first: int = 0,
) -> NDArray[np.float64]:
    """Of all rows of the grid, or of some from the ``first`` on."""
    grid, frame = grid or Size(planes.shape[-2], planes.shape[-1]), geometry.frame
    maps = geometry.grid_from_frame(grid, align_corners=card.align_corners)
    rows = np.arange(frame.height) if rows is None else rows
    columns = np.arange(frame.width) if columns is None else columns
    top, bottom, down = _between(maps.y, rows, grid.height)
    left, right, along = _between(maps.x, columns, grid.width)
    above, below = (planes.take(rows - first, axis=1) for rows in (top, bottom))
    mixed = _mixed(above, below, down[:, None])
    return _mixed(mixed.take(left, axis=2), mixed.take(right, axis=2), along)


def _mixed(
    before: NDArray[np.float64], after: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``before`` and ``after``, which is written over, by the share of the latter."""
    after -= before
    after *= share
    after += before
    return after


def confidence(
    logits: NDArray[Any],
    card: ModelCard,
    geometry: Geometry,
    *,
    kind: ConfidenceKind = "probability",
) -> NDArray[np.float32]:
    """How sure the network is of each frame pixel's label, H x W.

    ``probability``: softmax of the interpolated logits (`sure_logits`) at the winner (for a sigmoid
    head the sigmoid, which is the same with a background logit of zero); ``margin``: best minus
    second-best of what the output holds. A single class has probability and margin 1. 0 where the
    network sees nothing.
    """
    between = interpolate if kind == "margin" else interpolate_sure
    values = np.sort(between(logits, card, geometry), axis=0)
    if values.shape[0] == 1:
        sure = np.ones(values.shape[1:])
    elif kind == "margin":
        sure = values[-1] - values[-2]
    else:
        sure = 1.0 / np.exp(values - values[-1]).sum(axis=0)
    found = np.zeros(sure.shape, np.float32)
    seen = _seen(geometry)
    found[seen] = sure[seen]
    return found


def ambiguous(logits: NDArray[Any], card: ModelCard, geometry: Geometry) -> NDArray[np.bool_]:
    """Frame pixels whose top-2 margin is at most `TIE` times the range of the finite logits.

    Where a class mixes infinities of both signs, its value is rounding noise: a pixel that such a
    class could win within that noise counts too.
    """
    planes = class_logits(logits, card)
    finite = planes[np.abs(planes) < _HUGE]
    span = float(np.ptp(finite)) if finite.size else 0.0
    values = _bilinear(planes, card, geometry)
    noise = 1e-12 * _bilinear(np.abs(planes), card, geometry)
    winner = np.argmax(values, axis=0)[None]
    lowest = np.take_along_axis(values - noise, winner, axis=0)[0]
    rivals = values + noise
    np.put_along_axis(rivals, winner, -np.inf, axis=0)
    return np.asarray(lowest - rivals.max(axis=0) <= TIE * span)


def overlay(
    image_hwc: NDArray[np.uint8],
    labels_hw: NDArray[Any],
    palette_bgr: Sequence[tuple[int, int, int]],
    alpha: float | Sequence[float],
) -> NDArray[np.uint8]:
    """The frame with each class's colour at opacity ``alpha`` (one or one a class), rounded.

    Labels beyond the palette leave the frame as it is.
    """
    count = len(palette_bgr)
    shares = np.append(np.broadcast_to(np.asarray(alpha, np.float64), (count,)), 0.0)
    colors = np.concatenate([np.reshape(palette_bgr, (count, 3)), np.zeros((1, 3), int)])
    index = np.minimum(labels_hw.astype(np.int64), count)
    share = shares[index][..., None]
    mixed = image_hwc * (1.0 - share) + colors[index] * share
    return np.asarray(np.floor(mixed + 0.5), np.uint8)


def class_pixels(labels_hw: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Pixels of each class; labels beyond the last class are not counted."""
    return np.bincount(labels_hw.ravel(), minlength=classes)[:classes].astype(np.int64)


def _between(
    axis: AxisMap, pixels: NDArray[np.int64], grid: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Grid index below and above each pixel's position, and the share of the one above."""
    position = np.clip(axis.scale * pixels + axis.offset, 0.0, grid - 1.0)
    low = np.floor(position).astype(np.int64)
    return low, np.minimum(low + 1, grid - 1), position - low


def _nearest_labels(
    output: NDArray[Any], card: ModelCard, geometry: Geometry, most: int
) -> NDArray[np.int64]:
    """Nearest lookup in a grid of labels; values outside 0..most become ``most``."""
    shape = [n for n in output.shape if n != 1]
    grid_shape = output.shape[-3:-1] if card.logits_layout == "nhwc" and output.ndim == 4 else None
    height, width = grid_shape or output.shape[-2:]
    if int(np.prod(shape)) != height * width:
        raise ModelError("the labels are no grid", facts={"found": str(output.shape)})
    grid = output.reshape(height, width).astype(np.int64)
    grid = np.where((grid < 0) | (grid > most), most, grid)
    maps = geometry.grid_from_frame(Size(height, width), align_corners=card.align_corners)
    rows = _nearest_index(maps.y, geometry.frame.height, height)
    columns = _nearest_index(maps.x, geometry.frame.width, width)
    return np.asarray(grid[rows[:, None], columns])


def _nearest_index(axis: AxisMap, pixels: int, grid: int) -> NDArray[np.int64]:
    """Nearest grid point; halfway goes up."""
    position = np.clip(axis.scale * np.arange(pixels) + axis.offset, 0.0, grid - 1.0)
    return np.asarray(np.floor(position + 0.5), np.int64)
