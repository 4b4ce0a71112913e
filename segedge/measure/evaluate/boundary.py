"""Boundary F-score: how well the outlines fit, which mIoU hardly sees.

Csurka, Larlus, Perronnin: What is a good evaluation measure for semantic segmentation? (BMVC 2013):
for a class, precision is the share of predicted outline pixels within a tolerance of the true
outline, recall the share of true ones within it of the predicted, F = 2PR / (P + R). The tolerance
is 0.75 % of the image's diagonal. Here an outline pixel of a class has a 4-neighbour of another
class; edges to ignored pixels and to the picture's border are none.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.0075
"""Share of the image's diagonal."""
_LARGEST_DISC = 11
"""Pixels across up to which painting a disc is faster than distances: images of 640x480."""


def boundary_scores(
    truth: NDArray[Any],
    prediction: NDArray[Any],
    *,
    classes: int,
    ignore: int = -1,
    tolerance: float = TOLERANCE,
) -> NDArray[np.float64]:
    """F of each class in one image, 0..1; NaN where neither has an outline of it.

    Truth of the value ``ignore`` has no outline, and hides the prediction there; the tolerance is a
    share of the diagonal.
    """
    void = truth == ignore
    edges_true, edges_found = _edges(truth, void), _edges(prediction, void)
    reach = tolerance * math.hypot(*truth.shape)
    scores = np.full(classes, np.nan)
    present = np.union1d(truth[edges_true], prediction[edges_found])
    for label in present.tolist():
        true = edges_true & (truth == label)
        found = edges_found & (prediction == label)
        scores[label] = _f_score(true, found, reach)
    return scores


def _f_score(true: NDArray[np.bool_], found: NDArray[np.bool_], reach: float) -> float:
    if not true.any() or not found.any():
        return 0.0
    box = _box(true | found)
    true, found = true[box], found[box]
    precision = float(_near(true, reach)[found].mean())
    recall = float(_near(found, reach)[true].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _edges(labels: NDArray[Any], void: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels with a 4-neighbour of another class, both of them counted."""
    edges = np.zeros(labels.shape, bool)
    for near, far in (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ):
        differ = (labels[near] != labels[far]) & ~void[near] & ~void[far]
        edges[near] |= differ
        edges[far] |= differ
    return edges


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The part that holds both outlines: distances between them need no more."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _near(outline: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """Pixels within a distance of the outline: by a disc where it is small, which is faster."""
    across = np.arange(-int(reach), int(reach) + 1)
    if across.size > _LARGEST_DISC:
        return np.asarray(_distance(outline) <= reach)
    disc = np.sqrt(across[:, None] ** 2 + across**2).astype(np.float32) <= reach
    return np.asarray(cv2.dilate(outline.view(np.uint8), disc.view(np.uint8)), bool)


def _distance(outline: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Euclidean distance of every pixel to the outline, exact."""
    distance: NDArray[np.float32] = cv2.distanceTransform(
        (~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return distance
