"""Labels that mean something else than they were taken for: the confusion matrix shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import built_in_sets
from segedge.measure.datasets.datasets import Dataset
from segedge.measure.datasets.decoder import Decoder
from segedge.measure.datasets.mapping import IGNORED, value_option
from segedge.measure.evaluate.confusion import Confusion

_GAIN = 0.15
"""How much better the mIoU must be, 0..1, before another reading of the labels is spoken of."""
_FACTOR = 1.5
_NEARLY = 0.01
"""A reading with a reason is preferred to the best order of the classes up to so much."""
_MOST_LOST = 0.5
"""Share of the counted pixels that a reading may leave out, below it: voids are not the half."""
_FEWEST_SHARED = 3
"""Classes that a known label set must share with the model."""


@dataclass(frozen=True)
class _Reading:
    """Another meaning of the labels."""

    reason: str
    fix: str
    miou: float


def doubts(counted: Confusion, dataset: Dataset) -> tuple[str, ...]:
    """Notes on labels that are probably read wrongly: why, what mends it, the mIoU it gives.

    Nothing is computed but sums of the matrix's rows. Where the user gave values a meaning, or two
    classes became one, no row tells what a value stands for, and nothing is said.
    """
    decoder = dataset.decoder
    if decoder is None or decoder.values or not _is_one_to_one(decoder.table):
        return ()
    notes = _half_of_a_binary_mask(counted, decoder)
    found = [r for r in _readings(counted, decoder) if _is_better(r.miou, counted.miou)]
    best = _best_order(counted, decoder)
    if best is not None and _is_better(best.miou, counted.miou):
        found = [r for r in found if r.miou >= best.miou - _NEARLY] or [best]
    if found:
        chosen = max(found, key=lambda r: r.miou)
        notes += (f"{chosen.reason}: {100 * chosen.miou:.2f} mIoU with {chosen.fix}",)
    return notes


def _is_better(miou: float, than: float) -> bool:
    """An mIoU of nothing is none."""
    return miou >= max(than + _GAIN, than * _FACTOR)


def _is_one_to_one(table: NDArray[np.int16]) -> bool:
    kept = table[table != IGNORED]
    return bool(np.unique(kept).size == kept.size)


def _half_of_a_binary_mask(counted: Confusion, decoder: Decoder) -> tuple[str, ...]:
    """Masks of 0 and 255 with two classes: 255 means the second one, and was ignored."""
    truth = counted.matrix.sum(axis=1)
    is_binary = decoder.kinds == {"values"} and len(decoder.table) == truth.size == 2
    if not is_binary or 255 not in decoder.ignored or not counted.ignored.any():
        return ()
    absent = int(decoder.table[1])
    if truth[absent]:
        return ()
    matrix = counted.matrix.copy()
    matrix[absent] += counted.ignored
    name = counted.classes[absent]
    return (
        f"the labels are 0 and 255 alone, and 255 was ignored "
        f"({100 * counted.ignored_share:.2f} % of the pixels): where it means {name!r}, "
        f"{100 * _miou(matrix):.2f} mIoU with {value_option({255: absent}, counted.classes)}",
    )


def _readings(counted: Confusion, decoder: Decoder) -> Iterator[_Reading]:
    """Usual mistakes: values off by one, another set's order, colours with swapped channels."""
    if decoder.kinds == {"colours"}:
        miou = _miou(_moved(counted.matrix, decoder.swapped()))
        yield _Reading(
            "red and blue of the colour labels are probably swapped",
            "label files written again (cv2.imwrite takes BGR)", miou,
        )  # fmt: skip
    if decoder.kinds != {"values"}:
        return
    for by, reason in (
        (1, "the labels are probably too high by one, with 0 for void"),
        (-1, "the labels are probably too low by one"),
    ):
        yield _reading(counted, decoder, decoder.shifted(by), reason)
    ours = {name.lower(): index for index, name in enumerate(counted.classes)}
    for known in built_in_sets().values():
        meant = {v: ours.get(name.lower(), IGNORED) for v, name in enumerate(known.names)}
        shared = sum(label != IGNORED for label in meant.values())
        if shared >= min(_FEWEST_SHARED, len(ours)):
            reason = f"the labels are probably in the order of {known.name}"
            yield _reading(counted, decoder, meant, reason)


def _best_order(counted: Confusion, decoder: Decoder) -> _Reading | None:
    """Each value as the class that is mostly predicted there, if no two are the same."""
    if decoder.kinds != {"values"}:
        return None
    meant = {
        value: int(counted.matrix[label].argmax())
        for value, label in enumerate(decoder.table.tolist())
        if label != IGNORED and counted.matrix[label].any()
    }
    if len(set(meant.values())) < len(meant):
        return None
    return _reading(counted, decoder, meant, "the classes are probably in another order")


def _reading(
    counted: Confusion, decoder: Decoder, meant: Mapping[int, int], reason: str
) -> _Reading:
    label_of = dict(enumerate(decoder.table.tolist()))
    moves = {label_of[value]: label for value, label in meant.items() if value in label_of}
    moves.pop(IGNORED, None)
    fix = value_option(meant, counted.classes)
    moved = _moved(counted.matrix, moves)
    loses_little = moved.sum() > (1 - _MOST_LOST) * counted.pixels
    return _Reading(reason, fix, _miou(moved) if loses_little else 0.0)


def _moved(matrix: NDArray[np.int64], moves: Mapping[int, int]) -> NDArray[np.int64]:
    """The matrix where rows stand for other true classes; a row of no class is left out."""
    moved = np.zeros_like(matrix)
    for row, label in moves.items():
        if label != IGNORED:
            moved[label] += matrix[row]
    return moved


def _miou(matrix: NDArray[np.int64]) -> float:
    counts = Confusion(tuple(map(str, range(len(matrix)))))
    counts.matrix = matrix
    return counts.miou if matrix.any() else 0.0
