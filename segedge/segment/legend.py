"""The legend: colour, name and share of each class, drawn into a corner of an overlay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb
from segedge.options.effect import HEAT_ENDS, HeatOf, heat_table_rgb

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

    Those below 0.05 % are left out, and there are at most ``most`` rows.
    """
    rows = sorted(
        (
            (shares.get(name, 0.0), name, color)
            for name, color in zip(classes, palette_rgb, strict=True)
        ),
        key=lambda row: -row[0],
    )
    rows = [row for row in rows if row[0] >= 0.0005][:most]
    height, width = image_hwc.shape[:2]
    unit = max(12, min(height // 30, width // 28))
    rows = rows[: max(0, (height // 2) // unit)]  # never above the middle of the picture
    if not rows:
        return
    scale = unit / 32.0
    texts = [(f"{share * 100:.1f} %", name, color) for share, name, color in rows]
    share_width = max(_text_width(text, scale) for text, _, _ in texts)
    name_left = 2 * unit + share_width
    panel_width = name_left + max(_text_width(name, scale) for _, name, _ in texts) + unit // 2
    panel = image_hwc[height - unit * len(rows) - unit // 2 :, : min(width, panel_width)]
    np.floor_divide(panel, 3, out=panel)
    for row, (text, name, color) in enumerate(texts):
        top = unit // 4 + row * unit
        box = ((unit // 4, top + unit // 8), (unit, top + unit - unit // 4))
        cv2.rectangle(panel, *box, (color[2], color[1], color[0]), cv2.FILLED)
        share_left = unit + unit // 2 + share_width - _text_width(text, scale)
        _put(panel, text, share_left, top + unit - unit // 3, scale)
        _put(panel, name, name_left, top + unit - unit // 3, scale)


def draw_heat_scale(image_hwc: NDArray[np.uint8], heat: HeatOf) -> None:
    """Draw the colours of a heat with what their ends mean into the lower left corner, in place."""
    height, width = image_hwc.shape[:2]
    unit = max(12, min(height // 30, width // 28))
    ends = HEAT_ENDS[heat]
    scale = unit / 32.0
    widths = [_text_width(text, scale) for text in ends]
    bar = min(6 * unit, width - sum(widths) - 2 * unit)
    panel_width = widths[0] + bar + widths[1] + 2 * unit
    if bar < unit or 2 * unit > height:
        return
    panel = image_hwc[height - unit - unit // 2 :, :panel_width]
    np.floor_divide(panel, 3, out=panel)
    colors = heat_table_rgb()[np.arange(bar) * 255 // (bar - 1), ::-1]
    left = unit + widths[0]
    panel[unit // 4 : unit + unit // 4, left : left + bar] = colors
    baseline = unit // 4 + unit - unit // 3
    _put(panel, ends[0], unit // 2, baseline, scale)
    _put(panel, ends[1], left + bar + unit // 2, baseline, scale)


def _text_width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, _FONT, scale, 1)[0][0])


def _put(panel: NDArray[np.uint8], text: str, left: int, baseline: int, scale: float) -> None:
    white = (255, 255, 255)
    cv2.putText(panel, text, (left, baseline), _FONT, scale, white, 1, cv2.LINE_AA)
