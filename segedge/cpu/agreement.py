"""How often carried logits say the same as the network's, at the points of a key frame's grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segedge.cpu.kernels import agreement as kernels
from segedge.motion.agreement import CLEAR_LOGITS, Agreement


def agreement(carried: NDArray[np.floating], network: NDArray[np.floating]) -> Agreement:
    """Compare logits of one grid, C x Gh x Gw; one channel is a class against its absence."""
    said, labels = np.empty((2, *network.shape[1:]), np.int32)
    clear, counts = np.empty(labels.shape, np.uint8), np.zeros(3, np.int64)
    lines = np.empty((2, labels.shape[1]), np.float32)
    planes = [np.ascontiguousarray(logits, np.float32) for logits in (carried, network)]
    kernels.compare_points(planes[0], planes[1], CLEAR_LOGITS, said, labels, clear, lines, counts)
    equal, clear_points, clear_equal = (int(count) for count in counts)
    share = clear_equal / clear_points if clear_points else None
    return Agreement(share, equal / labels.size)
