"""Counting places with the same label in two answers, ties apart.

A tie is decided by rounding, not by the network, so it counts neither for nor against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.card.records import Parity


@dataclass(frozen=True)
class LabelCount:
    """One image, or several of them added up."""

    pixels: int = 0
    """Places compared."""
    ambiguous: int = 0
    """Ties among them, by the rule of `segedge.reference.frame.ambiguous`."""
    equal: int = 0
    """Places of the others with the same label."""
    max_logit_error: float | None = None
    """Largest absolute difference of logits or probabilities; None where there is none to tell."""
    logit_range: float | None = None
    """From the lowest to the highest of those."""

    @classmethod
    def of(
        cls,
        same: NDArray[Any],
        clear: NDArray[np.bool_] | None = None,
        *,
        max_logit_error: float | None = None,
        logit_range: float | None = None,
    ) -> LabelCount:
        """Count booleans: where the labels are the same, and where they are no tie."""
        if clear is None:
            equal = int(np.count_nonzero(same))
            return cls(same.size, 0, equal, max_logit_error, logit_range)
        ties, equal = int(np.count_nonzero(~clear)), int(np.count_nonzero(same & clear))
        return cls(same.size, ties, equal, max_logit_error, logit_range)

    def __add__(self, other: LabelCount) -> LabelCount:
        """Both together."""
        return LabelCount(
            self.pixels + other.pixels,
            self.ambiguous + other.ambiguous,
            self.equal + other.equal,
            _larger(self.max_logit_error, other.max_logit_error),
            _larger(self.logit_range, other.logit_range),
        )

    @property
    def clear(self) -> int:
        """Places that are no tie."""
        return self.pixels - self.ambiguous

    @property
    def agreement(self) -> float:
        """Share of the clear places with the same label, 0..1."""
        return self.equal / self.clear if self.clear else 1.0

    @property
    def ambiguous_share(self) -> float:
        """Share of the places that are ties, 0..1."""
        return self.ambiguous / max(self.pixels, 1)

    def parity(
        self, *, images: int, kind: Literal["images", "noise"], sizes: Sequence[Size]
    ) -> Parity:
        """The outcome as a card holds it."""
        return Parity(
            images=images,
            kind=kind,
            agreement=self.agreement,
            ambiguous=self.ambiguous_share,
            max_logit_error=self.max_logit_error,
            logit_range=self.logit_range,
            sizes=tuple(map(str, sizes)),
        )


def _larger(first: float | None, second: float | None) -> float | None:
    return max((each for each in (first, second) if each is not None), default=None)
