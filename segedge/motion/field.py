"""MotionField: where each block of a frame lies in its key frame, and how well that explains it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.errors import UsageError

Displacement = NDArray[np.float32]
"""Bh x Bw x 2, x before y, in pixels of the frame."""
EXPLAINED_LEVELS = 12.0
"""Grey levels up to which a block counts as explained by its motion: above noise, compression and
what motion leaves over at edges, below the contrast of different things."""


@dataclass(frozen=True)
class MotionField:
    """The motion from a frame to another one of the same video, its *key*.

    The frame is cut into equal blocks; between their centres everything is bilinear, beyond the
    outermost it is as theirs.
    """

    displacement: Displacement
    """What is at a pixel was in the key at the pixel plus this."""
    residual: NDArray[np.float32]
    """Bh x Bw, in grey levels 0..255: how much the frame differs from the key after the motion."""
    frame: Size
    """Height and width of the frame."""

    def __post_init__(self) -> None:
        blocks = self.residual.shape
        fits = self.residual.ndim == 2 and self.displacement.shape == (*blocks, 2)
        single = self.displacement.dtype == self.residual.dtype == np.float32
        if not (fits and single and self.residual.size):
            raise UsageError(
                "displacement and residual of a motion field do not go together",
                facts={
                    "expected": "float32, Bh x Bw x 2 and Bh x Bw",
                    "found": f"{self.displacement.dtype} {self.displacement.shape} and "
                    f"{self.residual.dtype} {self.residual.shape}",
                },
            )

    @classmethod
    def still(cls, frame: Size) -> MotionField:
        """Nothing moves, and all of it is explained."""
        return cls(np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32), frame)

    @property
    def blocks(self) -> Size:
        """Rows and columns of blocks."""
        return Size(*self.residual.shape)

    @property
    def explained(self) -> float:
        """Share of the picture, 0..1, that the motion explains; little of it after a cut."""
        return float(np.count_nonzero(self.residual <= EXPLAINED_LEVELS) / self.residual.size)
