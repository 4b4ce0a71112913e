"""What an original writes, by its values alone: parity's word on what its graph was taken for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.convert.passes.head import HeadFacts
from segedge.errors import ExportError, ParityError


@dataclass
class Reading:
    """Of the images that parity is measured on."""

    lowest: float = np.inf
    highest: float = -np.inf
    numbers: Counter[int] = field(default_factory=Counter)
    """Places with each integer, where it writes such."""

    def add(self, output: NDArray[Any]) -> None:
        """Take another image's."""
        self.lowest = min(self.lowest, float(np.min(output)))
        self.highest = max(self.highest, float(np.max(output)))
        if output.dtype.kind in "iu":
            found, counts = np.unique(output, return_counts=True)
            self.numbers.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    @property
    def limit(self) -> float | None:
        """From where on a single channel is of the second class; None where that is not told.

        Below 0 there are logits, which change sides at 0; what keeps to 0..1 or fills 0..255 is a
        share of that, and changes at half.
        """
        if self.lowest < 0.0:
            return 0.0
        if self.highest <= 1.0 + 1e-3:
            return 0.5
        return 127.5 if 254.0 <= self.highest <= 255.5 else None

    def require(self, head: HeadFacts, card: ModelCard) -> tuple[str, ...]:
        """Raise where the file means something else by these values; what the user should know."""
        if head.head == "labels":
            return self._require_classes(card) if head.channels is None else ()
        if head.limit is None or head.is_asked or self.limit is None:
            return ()
        if not np.isclose(self.limit, head.limit, rtol=1e-3):
            raise ParityError(
                "it is not clear from which value on a pixel is of the second class",
                facts={
                    "values": f"{self.lowest:.4g} to {self.highest:.4g} on these images, which "
                    f"says {self.limit:g}",
                    "operators": f"say {head.limit:g}",
                },
                fix="--threshold T as in training; or --verify IMAGES that show both classes",
            )
        return ()

    def _require_classes(self, card: ModelCard) -> tuple[str, ...]:
        """Labels are those of the classes, or the one that is of none.

        Of two classes that one is the second, in a mask of 0 and 255.
        """
        total = self.numbers.total()
        shares = {
            number: 100 * count / total
            for number, count in sorted(self.numbers.items())
            if not 0 <= number < len(card.classes)
        }
        ignored = 0.0
        if card.ignore_index is not None and len(card.classes) > 2:
            ignored = shares.pop(card.ignore_index, 0.0)
        if shares:
            shown = [f"{number} ({share:.2g} %)" for number, share in list(shares.items())[:4]]
            raise ExportError(
                "the network writes labels that are none of its classes",
                facts={
                    "found": ", ".join(shown) + (", ..." if len(shares) > 4 else ""),
                    "classes": f"{len(card.classes)}, labels 0 to {len(card.classes) - 1}",
                },
                fix="name as many classes as there are (--classes), or let the network write 0, "
                "1, ...; --threshold where it is one channel of grey levels",
            )
        if not ignored:
            return ()
        return (f"{ignored:.2g} % of its labels are {card.ignore_index}, which is of no class",)
