"""What a single channel's threshold is, and whether labels are those of the classes.

Operators say it, or the values that the network gives to images do; where neither is clear, the
user is asked (``--threshold``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.convert.passes.bounds import bounds
from segedge.convert.passes.head import TO_FLOAT, FoundHead, HeadFacts, about_zero, one_channel
from segedge.convert.reading import Reading
from segedge.errors import ExportError, UsageError
from segedge.reference import frame as reference

_RANGES = (1.0, 255.0)
"""Of probabilities and of grey levels."""
_BYTES = (250, 255)
"""The highest number of a mask in bytes, which need not be sure anywhere."""
_GREYS = 16
"""So many different numbers are grey levels, not labels of two classes."""
_NEAR = 1e-3
"""How far, as a share, values may be above a range by rounding."""


@dataclass(frozen=True)
class _Threshold:
    """What one channel's is."""

    limit: float
    """In the original's own units."""
    is_asked: bool = False
    """Whether the user named it."""
    span: float | None = None
    """The range that it is a part of; None of logits."""
    notes: tuple[str, ...] = ()


Seeing = Callable[[], Reading]


def seeing(
    original: Callable[[NDArray[np.float32]], NDArray[Any]],
    images: Callable[[], Iterable[NDArray[np.uint8]]],
    card: ModelCard,
) -> Seeing:
    """Look at what an original writes for images, once it is asked for; up to the first logit."""

    @cache
    def seen() -> Reading:
        values = Reading()
        for image in images():
            tensor = reference.preprocess(image, card, card.place(Size(*image.shape[:2])))
            values.add(np.asarray(original(tensor)))
            if values.lowest < 0:
                break
        return values

    return seen


def settle(
    found: FoundHead, card: ModelCard, seen: Seeing, asked: float | None = None
) -> FoundHead:
    """A head whose single channel has its threshold at 0, and whose labels are the classes'.

    ``asked`` is the user's threshold, in the original's own units. UsageError: there is nothing
    that has one, or the graph has its own. ExportError: it is not clear, or labels are no classes.
    """
    facts = found.facts
    if facts.head == "labels":
        if facts.channels is None:
            return _settled_labels(found, card, seen, asked)
    elif facts.channels == 1 and facts.original.threshold is None:
        return _settled_channel(found, seen, asked)
    own = facts.original.threshold
    if asked is not None:
        raise UsageError(
            "--threshold is for one channel of numbers",
            facts={"found": f"{facts.channels} channels" if own is None else "a threshold inside"},
            fix="leave it out",
        )
    return found


def _settled_channel(found: FoundHead, seen: Seeing, asked: float | None) -> FoundHead:
    facts = found.facts
    is_logit = not facts.probabilities
    if facts.original.activation == "sigmoid" and is_logit:
        if asked is not None and not 0 < asked < 1:
            raise UsageError(
                f"--threshold {asked:g} of a sigmoid", facts={"expected": "between 0 and 1"}
            )
        limit = 0.5 if asked is None else asked
        return _with(found, _Threshold(limit, asked is not None), math.log(limit / (1 - limit)))
    chosen = _threshold(found, seen, asked)
    facts = replace(facts, probabilities=not is_logit or chosen.span is not None)
    return _with(replace(found, facts=facts), chosen, chosen.limit)


def _with(found: FoundHead, chosen: _Threshold, shift: float) -> FoundHead:
    """A head whose channel is less ``shift``, and a share of its range where that is known."""
    facts = replace(
        found.facts, limit=chosen.limit, shift=shift, scale=chosen.span or 1.0,
        notes=(*found.facts.notes, *chosen.notes), is_asked=chosen.is_asked,
    )  # fmt: skip
    behind = (*found.behind, *about_zero(shift, scale=facts.scale))
    return replace(found, facts=facts, behind=behind)


def _threshold(found: FoundHead, seen: Seeing, asked: float | None) -> _Threshold:
    """The user's; half of the range that operators or values keep to; or 0, of logits."""
    low, high = bounds(found.end)
    is_inside = low >= 0 and high < math.inf
    if asked is not None:
        return _Threshold(asked, True, high - low if is_inside else None)
    if is_inside:
        limit = (low + high) / 2
        is_plain = found.facts.original.activation == "sigmoid"
        told = () if is_plain else _told(limit, f"its operators keep to {low:g} to {high:g}")
        return _Threshold(limit, False, high - low, told)
    if -math.inf < low < 0 or (values := seen()).lowest < 0:
        return _Threshold(0.0)
    span = _own_range(values.highest)
    if span is None:
        raise ExportError(
            "it is not clear from which value on a pixel is of the second class",
            facts={
                "one channel": f"with values of {_span(values)} on the images that it was shown"
            },
            fix="--threshold 0 where they are logits, else what training took; or --verify IMAGES "
            "that show both classes",
        )
    told = _told(span / 2, f"its values are {_span(values)}, none below 0")
    return _Threshold(span / 2, False, span, told)


def _span(values: Reading) -> str:
    return f"{values.lowest:.4g} to {values.highest:.4g}"


def _own_range(highest: float) -> float | None:
    """The range of numbers of which none is below 0: 0 to 1, or 0 to 255; None: not clear."""
    if highest <= _RANGES[0] * (1 + _NEAR):
        return _RANGES[0]
    return _RANGES[1] if abs(highest - _RANGES[1]) <= _RANGES[1] * _NEAR else None


def _told(limit: float, why: str) -> tuple[str]:
    return (
        f"one channel is taken for a share of its range ({why}): the second class is what is above "
        f"{limit:g}; --threshold where it is another",
    )


def _settled_labels(
    found: FoundHead, card: ModelCard, seen: Seeing, asked: float | None
) -> FoundHead:
    """Integers that nothing is known of: labels, or with two classes one channel in bytes."""
    if len(card.classes) == 2:
        values = seen()
        is_full = _BYTES[0] <= values.highest or len(values.numbers) >= _GREYS or asked is not None
        if values.lowest >= 0 and values.highest <= _BYTES[1] and is_full:
            return _from_bytes(found, values, asked)
    if asked is not None:
        raise UsageError("--threshold is for one channel of numbers", fix="leave it out")
    return found


def _from_bytes(found: FoundHead, values: Reading, asked: float | None) -> FoundHead:
    """A mask that holds 0 and 255, or grey levels between: one channel of numbers."""
    facts: HeadFacts = found.facts
    limit = _RANGES[1] / 2 if asked is None else asked
    behind = (*found.behind, *one_channel(facts.grid.width), *TO_FLOAT)
    original = replace(facts.original, labels=False, channels=1)
    facts = replace(facts, head="logits", channels=1, original=original, probabilities=True)
    told = () if asked is not None else _told(limit, f"integers of {_span(values)}")
    chosen = _Threshold(limit, asked is not None, _RANGES[1], told)
    return _with(replace(found, facts=facts, behind=behind), chosen, limit)
