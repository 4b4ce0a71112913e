"""Drawing: what computes a result's arrays; `Result` keeps them and works out the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import names_in
from segedge.errors import unknown_name_error
from segedge.options.style import OverlayStyle

OUTPUTS = ("labels", "overlay", "confidence", "class_pixels")
"""What `Result.compute` takes."""
MEAN: Final = "mean_confidence"
"""The mean of a confidence, on a CPU without its map; `Result.compute` takes it, too."""
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

        ``outputs`` are of `OUTPUTS` or `MEAN`, or `MARGIN` alone; ``known`` was drawn before.
        """

    def labels_of(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Labels of a rectangle of the frame."""

    def on_device(self, name: str) -> tuple[Any, ...]:
        """An output's planes in GPU memory."""


def checked_outputs(outputs: Iterable[str], style: OverlayStyle) -> tuple[str, ...]:
    """Outputs in order, and with an overlay the counts that its legend tells.

    UsageError on a name that is none of `OUTPUTS`, nor `MEAN`.
    """
    names = set(names_in(outputs))
    for name in names:
        if name not in (*OUTPUTS, MEAN):
            raise unknown_name_error("output", name, (*OUTPUTS, MEAN))
    if "overlay" in names and style.counts_classes:
        names.add("class_pixels")
    return tuple(sorted(names))


def maps_of(outputs: Iterable[str]) -> tuple[str, ...]:
    """What a GPU draws of outputs: of a mean its map."""
    return tuple(sorted({"confidence" if name == MEAN else name for name in outputs}))


def mean_of(confidence: NDArray[Any]) -> NDArray[np.float64]:
    """`MEAN` of a map."""
    return np.array([confidence.mean(dtype=np.float64)])
