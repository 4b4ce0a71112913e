"""Compiles the kernels before the clock runs: seconds on the first use of an installation."""

from __future__ import annotations

import numpy as np

from segedge.analyse.road import find_road
from segedge.analyse.zones import Zone, zone_pixels


def compile_kernels(class_count: int) -> None:
    """Run everything once on a tiny label map.

    Args:
        class_count: Decides the type of the labels.
    """
    labels = np.zeros((2, 2), np.uint8 if class_count <= 256 else np.uint16)
    find_road(labels, ("road",))
    zone_pixels(labels, Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))), ("road",))
