"""Ground: image pixels to metres on the ground, by a homography."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.plain import parse_json
from segedge.errors import UsageError, unknown_name_error
from segedge.machine.text_file import UnreadableText, read_text

_KEYS = ("image_to_ground", "points", "image_size")
_SINGULAR = 1e-9
"""Determinants below this, of matrices scaled to unit rows, have no inverse worth the name."""
_EXPECTED = (
    '{"points": [{"pixel": [x, y], "ground_m": [right, forward]}, ...]} with four of them, or '
    '{"image_to_ground": 3x3}'
)


@dataclass(frozen=True, eq=False)
class Ground:
    """The plane that is driven on.

    A pixel (x, y) shows the ground point (X, Y) = (u / w, v / w), (u, v, w) = H (x, y, 1): a
    homography (Hartley and Zisserman, Multiple View Geometry, 2nd edition, 2.3). X and Y are
    metres in the axes of whoever measured; distances are from their origin. Lens distortion is
    not modelled, and what stands on the ground is measured at its foot.
    """

    image_to_ground: NDArray[np.float64]
    """3 x 3, from pixel indices to metres."""
    image_size: tuple[int, int] | None = None
    """(height, width) of the images it was measured in; frames of other sizes are scaled to it.
    None: the frames have that size."""
    error_m: float | None = None
    """Largest distance between a measured point and its image, where points were given."""

    def __post_init__(self) -> None:
        matrix = self.image_to_ground
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise UsageError(
                "a homography is 3x3 finite numbers", facts={"found": str(matrix.tolist())[:60]}
            )
        lengths = np.linalg.norm(matrix, axis=1)
        if lengths.min() == 0 or abs(np.linalg.det(matrix / lengths[:, None])) < _SINGULAR:
            raise UsageError(
                "the homography is singular: it maps the image onto a line or a point",
                facts={"found": str(matrix.tolist())[:60]},
                fix="measure four points of which no three lie on a line",
            )
        if self.image_size is not None and min(self.image_size) < 1:
            raise UsageError(f"no image size {self.image_size[1]}x{self.image_size[0]}")

    def positions_m(
        self, x: NDArray[Any], y: NDArray[Any], size: tuple[int, int]
    ) -> NDArray[np.float64]:
        """N x 2 metres (X, Y) on the ground, of N columns and N rows of a (height, width) frame.

        NaN for what is at or beyond the horizon: on the other side of it than the middle of the
        image's lowest row.
        """
        height, width = size
        own_height, own_width = self.image_size or size
        points = np.stack([x, y, np.ones(np.shape(x))], axis=-1).astype(np.float64)
        foot = np.array([width / 2, height - 1.0, 1.0])
        # pixel centres keep their place in the picture: (x + 0.5) / width
        ratio = np.array([own_width / width, own_height / height, 1.0])
        shift = np.array([0.5, 0.5, 0.0])
        mapped = ((points + shift) * ratio - shift) @ self.image_to_ground.T
        side = ((foot + shift) * ratio - shift) @ self.image_to_ground[2]
        w = mapped[:, 2] * np.sign(side)
        with np.errstate(divide="ignore", invalid="ignore"):
            result: NDArray[np.float64] = np.where(
                (w > 1e-9)[:, None], mapped[:, :2] / mapped[:, 2:], np.nan
            )
        return result

    def distances_m(
        self, x: NDArray[Any], y: NDArray[Any], size: tuple[int, int]
    ) -> NDArray[np.float64]:
        """How far pixels are from the origin of the ground's axes, in metres; NaN as above."""
        distances: NDArray[np.float64] = np.hypot(*self.positions_m(x, y, size).T)
        return distances


_HUGE = 1e30


def read_ground(path: Path) -> Ground:
    """A homography of a JSON file; docs/road.md has examples.

    Raises:
        UsageError: It cannot be read, holds something else, or is singular.
    """
    try:
        data = parse_json(read_text(path))
    except (UnreadableText, ValueError) as error:
        raise UsageError(
            f"cannot read a homography from {path}", facts={"found": str(error)}
        ) from error
    if isinstance(data, list):
        data = {"image_to_ground": data}
    if not isinstance(data, dict) or ("points" in data) == ("image_to_ground" in data):
        raise _unreadable(path, data)
    for key in data:
        if key not in _KEYS:
            raise unknown_name_error(f"key of {path}:", key, _KEYS)
    width_height = data.get("image_size")
    size = None
    if width_height is not None:
        numbers = _numbers(width_height, (2,), path)
        if np.isnan(numbers).any():
            raise _unreadable(path, width_height)
        size = (int(numbers[1]), int(numbers[0]))
    if "image_to_ground" in data:
        return Ground(_numbers(data["image_to_ground"], (3, 3), path), size)
    return _of_points(data["points"], size, path)


def _of_points(points: Any, size: tuple[int, int] | None, path: Path) -> Ground:
    keys = {"pixel", "ground_m"}
    if not isinstance(points, list) or not all(
        isinstance(point, dict) and set(point) == keys for point in points
    ):
        raise _unreadable(path, points)
    if len(points) < 4:
        raise UsageError(
            f"{path} has {len(points)} points, a homography needs four",
            fix="measure four points of which no three lie on a line",
        )
    count = len(points)
    pixels = _numbers([point["pixel"] for point in points], (count, 2), path)
    metres = _numbers([point["ground_m"] for point in points], (count, 2), path)
    if np.isnan(pixels).any() or np.isnan(metres).any():
        raise _unreadable(path, points)
    if min(_spread(pixels), _spread(metres)) < 1e-6:
        raise UsageError(
            f"the points of {path} give no homography: they lie on a line, or all but one do",
            fix="measure four points of which no three lie on a line",
        )
    matrix = cv2.findHomography(pixels, metres, 0)[0]
    if matrix is None:
        raise _unreadable(path, points)
    ground = Ground(np.asarray(matrix, np.float64), size)
    mapped = cv2.perspectiveTransform(pixels.reshape(1, -1, 2), ground.image_to_ground)[0]
    return Ground(
        ground.image_to_ground, size, float(np.linalg.norm(mapped - metres, axis=1).max())
    )


def _spread(points: NDArray[np.float64]) -> float:
    """How far the points are from a line that holds all of them, or all but one, 0..1.

    Four points give a homography only if no three lie on a line; more only if at least four do
    not.
    """
    scale = max(float(np.ptp(points, axis=0).max()), 1e-12)
    least = np.inf
    for left_out in range(len(points)):
        rest = np.delete(points, left_out, axis=0)
        centred = (rest - rest.mean(axis=0)) / scale
        least = min(least, float(np.linalg.svd(centred, compute_uv=False)[1]))
    return least


def _numbers(value: Any, shape: tuple[int, ...], path: Path) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise _unreadable(path, value) from None
    # Beyond it squares leave what a float holds.
    if array.shape != shape or (np.abs(array) >= _HUGE).any():
        raise _unreadable(path, value)
    return array


def _unreadable(path: Path, found: Any) -> UsageError:
    return UsageError(
        f"{path} holds no homography",
        facts={"expected": _EXPECTED, "found": json.dumps(found)[:60]},
        fix="docs/road.md shows both forms",
    )
