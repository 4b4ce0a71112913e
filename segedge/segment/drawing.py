"""Drawing: what computes a result's arrays; `Result` keeps them and works out the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from segedge.errors import unknown_name_error
from segedge.options.style import OverlayStyle

OUTPUTS = ("labels", "overlay", "confidence", "class_pixels")
"""What `Result.compute` takes."""
WARMED = ("labels", "overlay", "class_pixels")
"""What `warm_up` prepares where it is not told."""
MARGIN: Final = "margin"
"""The lead of the best logit, which takes the place of a confidence; drawn by itself."""

Arrays = dict[str, NDArray[Any]]


class Drawing(Protocol):
    """One frame's logits and how they become pictures; on the CPU or on a GPU."""

    def wait(self) -> Arrays:
        """Block until the frame is done; the outputs that lie on the CPU by then."""

    def logits(self) -> NDArray[Any]:
        """The network's raw output, on the CPU."""

    def draw(
        self, outputs: tuple[str, ...], style: OverlayStyle, known: Mapping[str, NDArray[Any]]
    ) -> Arrays:
        """Outputs in one pass, the overlay still without its legend.

        ``outputs`` are of `OUTPUTS`, or `MARGIN` alone; ``known`` has what was drawn before.
        """

    def labels_of(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Labels of a rectangle of the frame."""

    def on_device(self, name: str) -> tuple[Any, ...]:
        """An output's planes in GPU memory."""


def checked_outputs(outputs: Iterable[str], style: OverlayStyle) -> tuple[str, ...]:
    """Outputs in order, and with an overlay the counts that its legend tells.

    UsageError on a name that is none of `OUTPUTS`.
    """
    names = set(outputs)
    for name in names:
        if name not in OUTPUTS:
            raise unknown_name_error("output", name, OUTPUTS)
    if "overlay" in names and style.counts_classes:
        names.add("class_pixels")
    return tuple(sorted(names))
