"""The legend: colour, name and share of each class, drawn into a corner of an overlay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.labels import Rgb

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_legend(
    image_hwc: NDArray[np.uint8],
    classes: Sequence[str],
    palette_rgb: Sequence[Rgb],
    shares: Mapping[str, float],
    *,
    most: int = 12,
) -> None:
    """Draw the classes present, largest share first, into the lower left corner, in place.

    Args:
        image_hwc: H x W x 3 uint8 BGR, changed.
        classes: Class names, in label order.
        palette_rgb: Their colours.
        shares: Class name to share of the picture, 0..1; classes below 0.05 % are left out.
        most: At most this many rows.
    """
    rows = sorted(
        ((shares.get(name, 0.0), name, color) for name, color in zip(classes, palette_rgb, strict=True)),
        key=lambda row: -row[0],
    )
    rows = [row for row in rows if row[0] >= 0.0005][:most]
    height, width = image_hwc.shape[:2]
    unit = max(12, min(height // 30, width // 28))
    rows = rows[: max(0, (height // 2) // unit)]  # never above the middle of the picture
    if not rows:
        return
    scale = unit / 32.0
    widest = max(cv2.getTextSize(name, _FONT, scale, 1)[0][0] for _, name, _ in rows)
    panel_width = min(width, widest + 5 * unit)
    panel = image_hwc[height - unit * len(rows) - unit // 2 :, :panel_width]
    np.floor_divide(panel, 3, out=panel)
    for row, (share, name, color) in enumerate(rows):
        _draw_row(panel, row, unit, scale, f"{share * 100:5.1f} %", name, color)


def _draw_row(
    panel: NDArray[np.uint8], row: int, unit: int, scale: float, share: str, name: str, color: Rgb
) -> None:
    top = unit // 4 + row * unit
    bgr = (color[2], color[1], color[0])
    box_end = (unit, top + unit - unit // 4)
    cv2.rectangle(panel, (unit // 4, top + unit // 8), box_end, bgr, cv2.FILLED)
    baseline = top + unit - unit // 3
    white = (255, 255, 255)
    cv2.putText(panel, share, (unit + unit // 4, baseline), _FONT, scale, white, 1, cv2.LINE_AA)
    cv2.putText(panel, name, (4 * unit, baseline), _FONT, scale, white, 1, cv2.LINE_AA)
