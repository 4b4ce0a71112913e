"""How near logits and labels come to what a proof says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry
from segedge.card.proof import Answer, margin_points, rivals, spread
from segedge.reference import frame as reference

_TAIL_POINTS = 1 << 13
"""Pixels at which a tail is compared: it is the same arithmetic everywhere."""
_STRIP = 24 << 10
"""Logits that are interpolated at a time."""


@dataclass(frozen=True)
class Nearness:
    """Of an output to what the original says."""

    labels: float
    """Share of the points that are no tie with the original's label, 0..1."""
    error: float | None
    """Largest difference of a margin, as a share of the logits' span; None: there is none to
    tell. Not a number counts as infinite."""


def nearness(answer: Answer, output: NDArray[Any], card: ModelCard) -> Nearness:
    """How near a network's output for an answer's picture is to the answer."""
    told = answer.label_at_points
    rows = spread(answer.plane_height, answer.rows)
    columns = spread(answer.plane_width, answer.columns)
    geometry = Geometry.fit(answer.plane, answer.plane, "stretch")
    if card.head == "labels":
        labels = reference.labels(output, card, geometry)[np.ix_(rows, columns)]
        return Nearness(_share(labels == told, told >= 0), None)
    labels = np.empty_like(told)
    wanted = answer.margin_at_points
    known = np.isfinite(wanted)
    points = margin_points(told.size, answer.step)[known]
    rival, margins = rivals(points, answer.classes), np.empty(points.size)
    for strip, planes in _strips(output, card, geometry, rows, columns):
        labels[strip] = planes.argmax(axis=0)
        within = slice(
            *np.searchsorted(points, (strip.start * columns.size, strip.stop * columns.size))
        )
        here, flat = points[within], planes.reshape(len(planes), -1)
        place = here - strip.start * columns.size
        margins[within] = flat[told.reshape(-1)[here], place] - flat[rival[within], place]
    return Nearness(_share(labels == told, told >= 0), _error(wanted[known], margins, answer.span))


def _strips(
    output: NDArray[Any],
    card: ModelCard,
    geometry: Geometry,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Interpolated logits of some of the rows at a time: memory that is used again and again.

    An array of all of them is memory new from the system for every step.
    """
    height = max(1, _STRIP // (len(card.classes) * columns.size))
    for first in range(0, rows.size, height):
        strip = slice(first, first + height)
        yield strip, reference.interpolate_at(output, card, geometry, rows[strip], columns)


def _error(wanted: NDArray[np.float64], margins: NDArray[np.float64], span: float) -> float | None:
    if not wanted.size:
        return None
    error = float(np.max(np.abs(margins - wanted))) / span
    return error if np.isfinite(error) else float("inf")


def tail_share(
    labels_hw: NDArray[Any], output: NDArray[Any], card: ModelCard, geometry: Geometry
) -> float:
    """Share of pixels, evenly spread, with the label that the reference makes of an output.

    Ties are left out.
    """
    frame = geometry.frame
    thinning = max(1.0, (frame.height * frame.width / _TAIL_POINTS) ** 0.5)
    rows = spread(frame.height, max(1, int(frame.height / thinning)))
    columns = spread(frame.width, max(1, int(frame.width / thinning)))
    found = labels_hw[np.ix_(rows, columns)]
    if card.head == "labels":
        wanted = reference.labels(output, card, geometry)[np.ix_(rows, columns)]
        return _share(found == wanted, np.ones(found.shape, np.bool_))
    wanted, lead = np.empty(found.shape, np.int64), np.empty(found.shape)
    least, most = np.inf, -np.inf
    for strip, planes in _strips(output, card, geometry, rows, columns):
        best, top = planes.argmax(axis=0), planes.max(axis=0)
        least, most = min(least, planes.min()), max(most, top.max())
        planes.reshape(len(planes), -1)[best.reshape(-1), np.arange(best.size)] = -np.inf
        wanted[strip], lead[strip] = best, top - planes.max(axis=0)
    sure = lead > reference.TIE * (most - least)
    top, left, bottom, right = geometry.seen()
    unseen = ((rows < top) | (rows >= bottom))[:, None] | (columns < left) | (columns >= right)
    wanted[unseen] = np.iinfo(reference.label_dtype(card.classes)).max
    return _share(found == wanted, sure | unseen)


def clear(planes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the winner of C x H x W logits is no matter of rounding."""
    behind = planes.max(axis=0) - planes > reference.TIE * np.ptp(planes)
    return np.asarray(np.count_nonzero(behind, axis=0) == len(planes) - 1)


def _share(same: NDArray[np.bool_], counted: NDArray[np.bool_]) -> float:
    total = int(np.count_nonzero(counted))
    return int(np.count_nonzero(same & counted)) / total if total else 1.0
