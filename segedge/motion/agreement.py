"""How often carried logits say the same as the network's, at the points of a key frame's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLEAR_LOGITS = 1.0
"""Lead of the best class over the second best from which a point counts as clear: the best is
2.7 times as likely. Where classes are nearly level, rounding changes labels, too."""

_Planes = NDArray[np.floating]


@dataclass(frozen=True)
class Agreement:
    """Shares of a key frame's grid points, 0..1, where the label is the same."""

    clear: float | None
    """Of the clear points away from borders between classes; None where there are none."""
    everywhere: float
    """Of all points."""


def agreement(carried: _Planes, network: _Planes) -> Agreement:
    """Compare logits of one grid, C x Gh x Gw; one channel is a class against its absence."""
    said, _ = _labels(carried)
    labels, lead = _labels(network)
    same = said == labels
    clear = (lead >= CLEAR_LOGITS) & ~_at_border(labels)
    share = float(same[clear].mean()) if clear.any() else None
    return Agreement(share, float(same.mean()))


def _labels(planes: _Planes) -> tuple[NDArray[np.integer], _Planes]:
    """The best class of each point, and its lead over the second best.

    Class after class over whole planes: `np.partition` across them takes twenty times as long.
    """
    if planes.shape[0] == 1:
        return (planes[0] > 0.0).astype(np.int64), np.abs(planes[0])
    best, labels = planes[0].copy(), np.zeros(planes.shape[1:], np.int64)
    second = np.full_like(best, -np.inf)
    for channel in range(1, len(planes)):
        plane = planes[channel]
        np.maximum(second, np.minimum(best, plane), out=second)
        np.copyto(labels, channel, where=plane > best)
        np.maximum(best, plane, out=best)
    return labels, best - second


def _at_border(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Points with another class among their eight neighbours."""
    padded = np.pad(labels, 1, mode="edge")
    rows, columns = labels.shape
    border = np.zeros(labels.shape, bool)
    for down in range(3):
        for across in range(3):
            border |= padded[down : down + rows, across : across + columns] != labels
    return border
