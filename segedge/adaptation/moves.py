"""What a channel was expected to be and what it is: how it is scaled and shifted to fit.

A channel is told in the units of what was expected of it: ``t = (y - mean) / deviation`` has mean
0 and deviation 1 on the images of training. On others it has mean m and variance v, and a share s
of the way there is (Schneider et al. 2020, arXiv 2006.16971; all of it: Li et al. 2016, AdaBN,
arXiv 1603.04779)

    t' = (t - s m) / sqrt(1 - s + s v)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.card.statistics import Channels

LEAST_DEVIATION = 1e-4
"""Of a layer's largest: below it a channel is dead, and stays as it is."""
_LEAST_VARIANCE, _LARGEST_VARIANCE = 1e-2, 1e2
"""As a multiple of what was expected: beyond, one channel would be all that is left."""


@dataclass(frozen=True)
class Move:
    """``y' = scale y + shift``, channel by channel."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """What a channel is on other images, in the units of what was expected of it."""

    mean: NDArray[np.float64]
    """0 where it is as expected."""
    variance: NDArray[np.float64]
    """1 where it is as expected."""


def is_alive(expected: Channels) -> NDArray[np.bool_]:
    """The channels that vary enough for units of their deviation."""
    return np.asarray(expected.deviation > LEAST_DEVIATION * expected.deviation.max(initial=1e-30))


def move_of(expected: Channels, found: Found, share: float) -> Move:
    """A share of the way, 0 to 1, from what is expected to what was found."""
    alive = is_alive(expected)
    variance = np.clip(found.variance, _LEAST_VARIANCE, _LARGEST_VARIANCE)
    scale = np.where(alive, 1.0 / np.sqrt(1.0 - share + share * variance), 1.0)
    # In the channel's own units: (y - mean) scale - share m deviation scale + mean.
    shift = expected.mean * (1.0 - scale) - share * found.mean * expected.deviation * scale
    return Move(scale, np.where(alive, shift, 0.0))
