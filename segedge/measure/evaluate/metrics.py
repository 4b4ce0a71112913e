"""The figures of an evaluation: where each comes from, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.measure.evaluate.boundary import TOLERANCE, boundary_scores
from segedge.measure.evaluate.confusion import Confusion

ImageScores = Callable[[NDArray[Any], NDArray[Any], int], NDArray[np.float64]]
"""Truth, prediction and the number of classes to a score a class, NaN where there is none."""


@dataclass(frozen=True)
class Metric:
    """A share, 0..1: of all pixels counted together, or of the images one by one."""

    key: str
    """Of the JSON."""
    label: str
    told: str
    """Behind its figure in the terminal."""
    meaning: str
    """What it is, on the page."""
    of_counts: Callable[[Confusion], float] | None = None
    of_image: ImageScores | None = None
    """The mean over the images is the class's, the mean over the classes the metric. Takes long:
    only where it is asked for."""
    column: str = ""
    """Head of its column in a table of classes, where it is measured image by image."""


_WITHIN = f"within {100 * TOLERANCE:g} % of the diagonal"
BOUNDARY = Metric(
    "boundary_f", "boundary", f"F-score {_WITHIN}", f"F-score of outlines {_WITHIN}",
    of_image=lambda truth, found, classes: boundary_scores(truth, found, classes=classes),
    column="boundary F",
)  # fmt: skip
METRICS = (
    Metric(
        "miou", "mIoU", "  of the classes that occur", "mean IoU of the classes that occur",
        lambda counts: counts.miou,
    ),
    Metric(
        "pixel_accuracy", "pixels", "right", "share of the counted pixels right",
        lambda counts: counts.pixel_accuracy,
    ),
    Metric(
        "mean_accuracy", "classes", "right, mean over the classes",
        "mean share right over the true classes", lambda counts: counts.mean_accuracy,
    ),
    BOUNDARY,
)  # fmt: skip
"""In the order in which they are told: a new one goes here; JSON, page and terminal follow."""
BY_IMAGE = tuple(metric for metric in METRICS if metric.of_image is not None)


def counted(confusion: Confusion) -> dict[str, float | None]:
    """Key to figure of what all pixels together say; None where there is nothing to measure."""
    return {m.key: plain(m.of_counts(confusion)) for m in METRICS if m.of_counts is not None}


def plain(value: float) -> float | None:
    """As JSON has it: None for NaN."""
    return None if np.isnan(value) else value
