"""How often carried logits say the same as the network's, at the points of a key frame's grid."""

from __future__ import annotations

from dataclasses import dataclass

CLEAR_LOGITS = 1.0
"""Lead of the best class over the second best from which a point counts as clear: the best is
2.7 times as likely. Where classes are nearly level, rounding changes labels, too."""


@dataclass(frozen=True)
class Agreement:
    """Shares of a key frame's grid points, 0..1, where the label is the same."""

    clear: float | None
    """Of the clear points away from borders between classes; None where there are none."""
    everywhere: float
    """Of all points."""
