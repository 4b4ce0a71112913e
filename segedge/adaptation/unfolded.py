"""The adapted file beside the same network with its scales and shifts as nodes of their own."""

from __future__ import annotations

import numpy as np

from segedge.adaptation.choose import Candidates
from segedge.adaptation.frames import Frames
from segedge.adaptation.moves import move_of
from segedge.errors import ParityError
from segedge.graph.kit import Formula, Model, put_behind, session_of, values_by_name
from segedge.reference import frame as reference
from segedge.reference.agreement import LabelCount

_WANTED = 0.999


def agreement_with_unfolded(
    candidates: Candidates, share: float, adapted: Model, frames: Frames
) -> LabelCount:
    """How far the folded weights compute what they stand for, on all frames.

    ParityError: they do not.
    """
    card, output = candidates.card, candidates.card.output or None
    here, there = session_of(adapted), session_of(_unfolded(candidates, share))
    total = LabelCount()
    for tensor in frames.tensors():
        one, other = (
            reference.class_logits(session(tensor, output), card) for session in (here, there)
        )
        top = np.sort(other, axis=0)[-2:]
        clear = top[1] - top[0] > reference.TIE * (other.max() - other.min())
        error = float(np.abs(one - other).max())
        total += LabelCount.of(
            one.argmax(axis=0) == other.argmax(axis=0), clear, max_logit_error=error
        )
    if total.agreement < _WANTED:
        raise ParityError(
            "the adapted weights do not compute what they stand for: a bug in segedge",
            facts={"agreement": f"{100 * total.agreement:.3f} % of the clear points"},
            fix="report it with the network",
        )
    return total


def _unfolded(candidates: Candidates, share: float) -> Model:
    """The graph with a Mul and an Add behind each layer that is moved."""
    copy = candidates.model.clone()
    values, add = values_by_name(copy), Formula(copy, "adapt")
    for layer in candidates.layers:
        value = values[layer.value]
        move = move_of(layer.expected, candidates.found[layer.value], share)
        scale, shift = (
            array.reshape(1, -1, 1, 1).astype(np.float32) for array in (move.scale, move.shift)
        )
        add("Add", add("Mul", value, scale), shift)
        put_behind(copy, value, add.take(), renamed=f"adapt_raw_{layer.value}")
    return copy
