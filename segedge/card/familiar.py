"""Familiar: what a network's answers look like on images that it knows.

Written where a network is exported with `--verify` images, or adapted to a camera, so that a run
can say how far another camera is from that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from segedge.card.attachments import FAMILIAR_KEY, Attachment
from segedge.errors import CardError

BINS = 10
"""Of the top probability, 0 to 1."""
_LEAST_FALL, _SPREADS = 0.05, 3.0
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Familiar:
    """Figures of some images, over the points of the logit grid."""

    when: Literal["exported", "adapted"]
    images: int
    confidence: float
    """Mean probability of the label, 0..1."""
    spread: float
    """Deviation of that from image to image."""
    top: tuple[float, ...]
    """Share of the points in each tenth of it."""
    class_shares: tuple[float, ...]
    """Share of the points with each label."""
    mean_bgr: Triple
    """Of the images, 0..255."""
    contrast_bgr: Triple
    """Deviation of the pixels of an image, 0..255, mean over the images."""

    def __post_init__(self) -> None:
        shares = (self.confidence, self.spread, *self.top, *self.class_shares)
        levels = (*self.mean_bgr, *self.contrast_bgr)
        if len(self.top) != BINS or self.images < 1:
            raise CardError(f"familiar figures are of an image or more, in {BINS} bins")
        if not all(0.0 <= value <= 1.0 for value in shares) or not all(map(math.isfinite, levels)):
            raise CardError("familiar shares are 0 to 1, and levels are finite")

    @property
    def alarm(self) -> float:
        """Confidence below which a camera differs: lower than single images of those known."""
        return max(0.0, self.confidence - max(_SPREADS * self.spread, _LEAST_FALL))


FAMILIAR = Attachment(FAMILIAR_KEY, Familiar, version=1, most_bytes=1 << 17)
"""How it lies among a file's metadata."""
