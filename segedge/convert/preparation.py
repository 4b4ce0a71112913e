"""How a network is given its images, and who says so: an option, the source, or nobody."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segedge.card.card import ModelCard
from segedge.card.dialects import with_foreign_preprocessing
from segedge.card.huggingface import RULE_OF_RESAMPLE
from segedge.convert.options import ExportOptions, Origin
from segedge.convert.passes.inner_scaling import InnerScaling
from segedge.convert.said import Said
from segedge.errors import UsageError

SHOWN = ("color", "mean", "std", "fit", "resize")
"""What of a preprocessing options can say."""
_FIELDS = (*SHOWN, "scaling", "at_start", "pad_value", "pad_mean", "padded_at_end")
_PICTURES = (0.45, 0.25)
"""About the mean and the standard deviation of pictures whose values are 0..1."""
_DEVIATIONS = (1.0, 64.0)
"""About what pictures' values deviate by behind a network's own normalisation: Caffe's divide by
nothing."""
_MOST_APART = 2.5
"""Farther from mean 0 and one of those (in logarithms) no normalisation brings pictures."""
_SURE = 1.5
"""How much farther what it is not given would come out."""
_UNIT, _LEVELS = ((0.0,) * 3, (1.0,) * 3), ((0.0,) * 3, (1 / 255,) * 3)
"""Mean and std of values 0..1 and 0..255."""


@dataclass(frozen=True)
class Preparation:
    """A card with its preprocessing, and where that comes from."""

    card: ModelCard
    origins: Mapping[str, Origin]
    """Who says each of `SHOWN`."""
    notes: tuple[str, ...] = ()
    """What the user should know, a sentence each."""


def prepare(card: ModelCard, options: ExportOptions, said: Said) -> Preparation:
    """Colour order, mean, std, fit and resize rule of a card without any.

    UsageError: options that contradict the network, or that are needed.
    """
    form = said.form
    is_grey = form is not None and form.channels == 1
    if is_grey:
        card = card.replace(mean=_UNIT[0], std=_UNIT[1])
    origins: dict[str, Origin] = dict.fromkeys(SHOWN, "assumed")
    card, known = _by_source(card, said)
    origins |= dict.fromkeys(known, "source")
    asked = {name: value for name in SHOWN if (value := getattr(options, name)) is not None}
    origins |= dict.fromkeys(asked, "option")
    if "fit" in asked:
        asked["scaling"] = None
    settled: Mapping[str, Any] = {} if form is None else form.settled()
    if form is not None and (refused := sorted(asked.keys() & settled.keys())):
        raise UsageError(
            f"the network takes {'grey' if 'color' in refused else form.dtype}"
            f"{' and normalises it itself' if 'mean' in settled else ''}",
            facts={"asked": ", ".join(f"--{name}" for name in refused)},
            fix="leave that out",
        )
    origins |= dict.fromkeys(settled, "network")
    card, notes = card.replace(**asked, **settled), tuple[str, ...]()
    if said.inner is not None and "mean" not in settled:
        card, origins, notes = _with_inner(card, origins, said.inner, is_grey=is_grey)
    if is_grey and len({*card.mean}) + len({*card.std}) > 2:
        raise UsageError(
            "the network takes grey: it has one mean and one std",
            facts={"mean": str(card.mean), "std": str(card.std)},
            fix="--mean M --std S, as in training",
        )
    return Preparation(card, origins, notes)


def _by_source(card: ModelCard, said: Said) -> tuple[ModelCard, tuple[str, ...]]:
    """What the source says, and which of `SHOWN` that is."""
    source = said.card or said.folder
    if source is not None:
        card = card.replace(**{n: getattr(source, n) for n in _FIELDS if hasattr(source, n)})
        if said.card is not None and said.card.pillow_resample is not None:
            card = card.replace(resize=RULE_OF_RESAMPLE[said.card.pillow_resample])
        return card, SHOWN
    foreign = with_foreign_preprocessing(card, said.metadata or {})
    return foreign, () if foreign is card else ("color", "mean", "std", "fit")


def _with_inner(
    card: ModelCard, origins: dict[str, Origin], inner: InnerScaling, *, is_grey: bool
) -> tuple[ModelCard, dict[str, Origin], tuple[str, ...]]:
    """A card whose network normalises inside: given what that is for, or said to be twice."""
    given = (card.mean, card.std)
    who = {origins["mean"], origins["std"]}
    if "assumed" not in who or len(who) > 1:
        if given in (_UNIT, _LEVELS):
            return card, origins, ()
        return card, origins, (
            f"the network scales its input itself, too ({inner}): mean and std come before that; "
            "--mean 0 --std 1 where they shall not",
        )  # fmt: skip
    found = _given_for(inner, None if is_grey else given)
    if found is None:
        raise UsageError(
            "the network scales its input itself, and what it is given for that is not known",
            facts={
                "found": f"{inner}: value * {inner.factor:.4g} + {inner.shift:.4g}, "
                "over the channels' mean"
            },
            fix="--mean 0 --std 1 for values 0 to 1; --mean 0 --std 0.00392157 for 0 to 255; or "
            "those that were applied before it in training",
        )
    if found == given:
        return card, origins, (
            f"the network scales its input itself, too ({inner}), as fits values that are "
            "normalised before: mean and std stay; --mean 0 --std 1 where they shall not",
        )  # fmt: skip
    mean, std = found
    words = "0 to 1" if found == _UNIT else "0 to 255"
    card = card.replace(mean=mean, std=std)
    return card, {**origins, "mean": "network", "std": "network"}, (
        f"the network normalises its input itself ({inner}): the file gives it values {words}; "
        "--mean, --std where that is wrong",
    )  # fmt: skip


def _given_for(inner: InnerScaling, normalised: Any) -> Any:
    """Mean and std by which pictures come out about normalised; None where that is not clear."""
    mean, std = _PICTURES
    figures = [(_UNIT, mean, std), (_LEVELS, 255 * mean, 255 * std)]
    figures += [(normalised, 0.0, 1.0)] if normalised is not None else []
    apart = sorted(
        (_apart(inner.factor * m + inner.shift, abs(inner.factor) * s), number)
        for number, (_, m, s) in enumerate(figures)
    )
    (first, best), (second, _) = apart[:2]
    return figures[best][0] if first <= _MOST_APART and second - first >= _SURE else None


def _apart(mean: float, deviation: float) -> float:
    """How far from normalised values of this mean and deviation are."""
    return abs(mean) + min(abs(math.log(deviation / usual)) for usual in _DEVIATIONS)
