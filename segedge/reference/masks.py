"""Mask classification, slowly: what queries say of classes and of pixels, as one map of classes.

Each of Q queries says which class it is of (C + 1 logits, the last one "no object") and where (a
mask of logits). The semantic map sums, over the queries, the probability of the class times that of
the mask; it is ``semantic_inference`` of MaskFormer and Mask2Former. A sum lies between 0 and Q, so
it is no logit: what a graph gives is its logarithm, whose softmax is the share of each class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import AxisMap, Size
from segedge.reference.resize import axis_matrix

SCORE_FLOOR = 1e-4
"""Added to a sum before its logarithm: less than this is nothing."""
SummedAt = Size | Literal["grid", "input"]
"""Where masks are summed: as they come, enlarged to the network's input, or to a size."""
_BAND_VALUES = 1 << 24
"""Mask values that are held at once."""
Planes = NDArray[np.float32]


def semantic_logits(class_logits: NDArray[Any], mask_logits: NDArray[Any], scale: int) -> Planes:
    """Logarithms of the sums, 1 x C x h x w, with the masks enlarged ``scale`` times before.

    ``class_logits`` are 1 x Q x (C + 1), ``mask_logits`` 1 x Q x h x w.
    """
    height, width = (scale * length for length in mask_logits.shape[2:])
    masks = _enlarged(np.asarray(mask_logits[0], np.float32), Size(height, width))
    return np.asarray(np.log(_summed(class_logits, masks) + SCORE_FLOOR)[None], np.float32)


def semantic_labels(
    class_logits: NDArray[Any], mask_logits: NDArray[Any], *, summed_at: SummedAt, size: Size
) -> NDArray[np.int64]:
    """Labels as the networks' own post-processing gives them, at a size.

    Masks are enlarged to where they are summed, and the sums to ``size`` if that is another.
    """
    masks = np.asarray(mask_logits[0], np.float32)
    bands: Iterator[Planes]
    if summed_at == "input" or summed_at == size:
        bands = (_summed(class_logits, band) for band in _bands(masks, size))
    else:
        at = Size(*masks.shape[1:]) if summed_at == "grid" else summed_at
        bands = _bands(_summed(class_logits, _enlarged(masks, at)), size)
    return np.concatenate([np.argmax(band, axis=0) for band in bands])


def _summed(class_logits: NDArray[Any], masks: Planes) -> Planes:
    """C x rows x columns from one image's class logits and Q x rows x columns of mask logits."""
    given = np.asarray(class_logits[0], np.float64)
    weights = np.exp(given - given.max(axis=1, keepdims=True))
    shares = (weights / weights.sum(axis=1, keepdims=True))[:, :-1].astype(np.float32)
    with np.errstate(over="ignore"):  # a mask logit below -88 is a probability of 0
        inside = 1.0 / (1.0 + np.exp(-masks.reshape(len(masks), -1)))
    return np.asarray((shares.T @ inside).reshape(-1, *masks.shape[1:]), np.float32)


def _enlarged(planes: Planes, size: Size) -> Planes:
    return np.concatenate(list(_bands(planes, size)), axis=1)


def _bands(planes: Planes, size: Size) -> Iterator[Planes]:
    """Planes brought to a size, bilinear and half-pixel, some rows at a time."""
    count, height, width = planes.shape
    if (height, width) == (size.height, size.width):
        yield planes
        return
    columns = _resampling(width, size.width).T
    down = _resampling(height, size.height)
    step = max(1, _BAND_VALUES // (count * size.width))
    for top in range(0, size.height, step):
        yield np.matmul(down[top : top + step], planes) @ columns


def _resampling(source: int, target: int) -> Planes:
    scale = source / target
    axis = AxisMap(scale, 0.5 * scale - 0.5)
    return axis_matrix("bilinear", axis, range(target), source).astype(np.float32)
