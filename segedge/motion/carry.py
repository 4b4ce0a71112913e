"""What carrying logits means for the CPU and the GPU alike: the finer grid, and the weights.

What exactly is done with a frame stands in `segedge.reference.motion`.
"""

from __future__ import annotations

from segedge.card.geometry import AxisMap, PlaneMap, Size

FINER = 2
"""Carried points a point of the network's grid and axis. Logits that were interpolated once lose
small things when they are interpolated again from points as far apart; twice as near is enough."""
LEAST_RESIDUAL = 2.0
"""Grey levels, the noise of a camera, that are added to a residual before keys are weighed: below
it no key explains a frame better than another."""

FUSED_LEVELS = 16.0
"""Grey levels left over by the motion from which on nothing of the past is fused."""


def finer_grid(grid: Size, finer: int) -> Size:
    """The grid with ``finer - 1`` more points between each two of the network's."""
    return Size(finer * (grid.height - 1) + 1, finer * (grid.width - 1) + 1)


def finer_map(plane: PlaneMap, finer: int) -> PlaneMap:
    """Index map to the finer grid, from the one to the network's."""
    return PlaneMap(_finer_axis(plane.y, finer), _finer_axis(plane.x, finer))


def _finer_axis(axis: AxisMap, finer: int) -> AxisMap:
    return AxisMap(finer * axis.scale, finer * axis.offset)
