"""The road in a label map: the drivable area, its limits, and what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.analyse.roles import drivable_names, label_table, obstacle_names
from segedge.errors import UsageError

_TOLERANCE_PX = 2.0
"""How far a simplified outline may be from the real one."""


@dataclass(frozen=True)
class RoadOptions:
    """What counts as road and as obstacle."""

    drivable: tuple[str, ...] = ()
    """Classes to drive on; none: the usual names, see `segedge.analyse.roles.DRIVABLE`."""
    obstacles: tuple[str, ...] = ()
    """Classes to stop at; none: all that are not flat, see `segedge.analyse.roles.FLAT`."""
    bonnet_share: float = 0.0
    """Share of the height, at the bottom, that the car's own bonnet hides: 0 to below 1."""
    least_obstacle_px: int = 1
    """Obstacle pixels that must stand upon each other in a column; fewer are specks."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.bonnet_share < 1.0:
            raise UsageError(
                "the bonnet covers a share of the height from 0 to below 1",
                facts={"found": str(self.bonnet_share)},
                fix="--bonnet 0.1",
            )
        if self.least_obstacle_px < 1:
            raise UsageError(
                f"an obstacle has at least 1 pixel, found {self.least_obstacle_px}",
                fix="--least-obstacle 3",
            )

    def check(self, classes: Sequence[str]) -> None:
        """Raise UsageError where a model with these classes has no such road."""
        names = drivable_names(classes, self.drivable)
        obstacles = obstacle_names(classes, self.obstacles, drivable=names)
        both = [name for name in obstacles if name in names]
        if both:
            raise UsageError(
                f"{both[0]!r} is drivable and an obstacle", fix="name it in one of the two lists"
            )


@dataclass(frozen=True)
class Nearest:
    """An obstacle, where it stands."""

    x: int
    """Its column."""
    y: int
    """Its lowest row."""
    name: str
    """Its class."""


@dataclass(frozen=True, eq=False)
class Road:
    """The drivable area of one frame and the obstacles around it; all in pixel indices."""

    classes: tuple[str, ...]
    """Class names, in label order."""
    mask: NDArray[np.bool_]
    """H x W: the largest 4-connected drivable region that reaches the bottom of the image."""
    area_px: int
    """Its pixels; 0 where no drivable pixel touches the bottom."""
    left_x: NDArray[np.int32]
    """H: the first column of the area in each row, -1 where it has none."""
    right_x: NDArray[np.int32]
    """H: the last column of the area in each row, -1 where it has none."""
    obstacle_y: NDArray[np.int32]
    """W: of each column the lowest row of the first obstacle from the bottom, -1 without one."""
    obstacle_label: NDArray[np.int32]
    """W: the label of that obstacle, -1 without one."""

    @property
    def area_share(self) -> float:
        """Share of the frame that is drivable area, 0..1."""
        return self.area_px / self.mask.size

    @property
    def polygon(self) -> NDArray[np.int32]:
        """N x 2 (x, y): the outline, within 2 pixels; no points where there is no area."""
        return self._rings[0] if self._rings else np.empty((0, 2), np.int32)

    @property
    def holes(self) -> list[NDArray[np.int32]]:
        """Outlines of what stands wholly inside the area, as `polygon`."""
        return self._rings[1:]

    @cached_property
    def nearest(self) -> Nearest | None:
        """The obstacle lowest in the image, the middlemost of those, or None."""
        return self._lowest(self.obstacle_y >= 0)

    @cached_property
    def nearest_on_road(self) -> Nearest | None:
        """The same among obstacles whose foot stands on the drivable area."""
        columns = np.arange(self.obstacle_y.size)
        below = np.minimum(self.obstacle_y + 1, self.mask.shape[0] - 1)
        return self._lowest((self.obstacle_y >= 0) & self.mask[below, columns])

    def _lowest(self, among: NDArray[np.bool_]) -> Nearest | None:
        if not among.any():
            return None
        rows = np.where(among, self.obstacle_y, -1)
        lowest = np.flatnonzero(rows == rows.max())
        x = int(lowest[np.argmin(np.abs(lowest - rows.size // 2))])
        return Nearest(x, int(rows[x]), self.classes[self.obstacle_label[x]])

    @cached_property
    def _rings(self) -> list[NDArray[np.int32]]:
        """Outline, then holes."""
        if not self.area_px:
            return []
        rows = np.flatnonzero(self.left_x >= 0)
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        window = np.ascontiguousarray(self.mask[top:bottom]).view(np.uint8)
        contours, tree = cv2.findContours(
            window, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(0, top)
        )
        order = sorted(range(len(contours)), key=lambda n: (tree[0][n][3] >= 0, n))
        simple = [
            cv2.approxPolyDP(contours[n], _TOLERANCE_PX, True).reshape(-1, 2).astype(np.int32)
            for n in order
        ]
        # what shrinks to a line is no hole to anyone
        return [simple[0], *(ring for ring in simple[1:] if len(ring) >= 3)]


def find_road(
    labels: NDArray[Any], classes: Sequence[str], options: RoadOptions | None = None
) -> Road:
    """Find the drivable area and the obstacles in H x W class labels, uint8 or uint16."""
    from segedge.analyse.scene import nearest_obstacles, region_at_bottom

    options = options or RoadOptions()
    drivable = drivable_names(classes, options.drivable)
    obstacles = obstacle_names(classes, options.obstacles, drivable=drivable)
    height, width = labels.shape
    labels = np.ascontiguousarray(labels)
    bottom = max(0, height - 1 - int(height * options.bonnet_share))
    most = (bottom + 1) * ((width + 1) // 2)
    start, end, parent = np.empty((3, most), np.int32)
    mask = np.zeros((height, width), np.uint8)
    left, right = np.empty((2, height), np.int32)
    area = region_at_bottom(
        labels, label_table(classes, drivable), bottom,
        start, end, parent, np.empty(most, np.int64), mask, left, right,
    )  # fmt: skip
    row, label = np.empty((2, width), np.int32)
    table = label_table(classes, obstacles)
    nearest_obstacles(labels, table, bottom, options.least_obstacle_px, row, label)
    return Road(tuple(classes), mask.view(np.bool_), int(area), left, right, row, label)
