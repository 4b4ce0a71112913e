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
    """The best class of each point, and its lead over the second best."""
    if planes.shape[0] == 1:
        return (planes[0] > 0.0).astype(np.int64), np.abs(planes[0])
    best = np.argmax(planes, axis=0)
    top = np.partition(planes, -2, axis=0)[-2:]
    return best, top[1] - top[0]


def _at_border(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Points with another class among their eight neighbours."""
    padded = np.pad(labels, 1, mode="edge")
    rows, columns = labels.shape
    border = np.zeros(labels.shape, bool)
    for down in range(3):
        for across in range(3):
            border |= padded[down : down + rows, across : across + columns] != labels
    return border
