"""Whether two ways made the same picture, and where they did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BORDER_PIXELS = 8
"""How near to a border between classes a difference is one of sampling: one cell of the logits."""


@dataclass(frozen=True)
class Agreement:
    """Of one way's picture with the reference's."""

    labels: float
    """Share of the pixels with the same label."""
    overlay: float
    """Share of the pixels whose overlays differ by at most 2 levels in each channel."""
    at_borders: float
    """Share of the other labels that lie within `BORDER_PIXELS` of a border between classes of
    the reference: half-pixel shifts, blocky enlarging and rounding move borders, nothing else."""

    @property
    def is_same(self) -> bool:
        """99.9 % of the labels."""
        return self.labels >= 0.999

    @property
    def is_explained(self) -> bool:
        """The same, or different at borders only, and little."""
        return self.is_same or (self.labels >= 0.95 and self.at_borders >= 0.99)

    @property
    def text(self) -> str:
        """In one line."""
        text = f"labels {self.labels:.3%} the same, overlay {self.overlay:.3%}"
        if self.labels == 1.0:
            return text
        return f"{text}; {self.at_borders:.1%} of the rest at borders"


def agreement(
    labels: NDArray[Any], overlay: NDArray[Any], reference: NDArray[Any], painted: NDArray[Any]
) -> Agreement:
    """Compare labels H x W and overlays H x W x 3 with those of the reference."""
    differs = labels != reference
    levels = np.abs(overlay.astype(np.int16) - painted.astype(np.int16)).max(axis=2)
    near = near_borders(reference)
    inside = float(near[differs].mean()) if differs.any() else 1.0
    return Agreement(float(1.0 - differs.mean()), float((levels <= 2).mean()), inside)


def near_borders(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels with another label within `BORDER_PIXELS`, in the larger of both axes."""
    kernel = np.ones((2 * BORDER_PIXELS + 1,) * 2, np.uint8)
    plane = labels.astype(np.uint8)
    return cv2.dilate(plane, kernel) != cv2.erode(plane, kernel)


def over_frames(found: list[Agreement]) -> Agreement:
    """Over several frames: the mean of the shares, and the least explained of the differences."""
    return Agreement(
        float(np.mean([a.labels for a in found])),
        float(np.mean([a.overlay for a in found])),
        min(a.at_borders for a in found),
    )
