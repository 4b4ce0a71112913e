"""The adapted file beside the same network with its scales and shifts as nodes of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.adaptation.choose import Candidates
from segedge.adaptation.frames import Frames
from segedge.adaptation.moves import move_of
from segedge.errors import ParityError
from segedge.machine.onnx_session import Session
from segedge.precision.graph import copied, onnx
from segedge.reference import frame as reference
from segedge.reference.agreement import LabelCount

_WANTED = 0.999


def agreement_with_unfolded(
    candidates: Candidates, share: float, adapted: Any, frames: Frames
) -> LabelCount:
    """How far the folded weights compute what they stand for, on all frames.

    ParityError: they do not.
    """
    card, output = candidates.card, candidates.card.output or None
    here, there = Session(adapted), Session(_unfolded(candidates, share))
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


def _unfolded(candidates: Candidates, share: float) -> Any:
    """The graph with a Mul and an Add behind each layer that is moved."""
    helper, from_array = onnx().helper, onnx().numpy_helper.from_array
    copy = copied(candidates.model)
    nodes = {layer.node: layer for layer in candidates.layers}
    result = []
    for place, node in enumerate(copy.graph.node):
        result.append(node)
        layer = nodes.get(place)
        if layer is None:
            continue
        move, value = move_of(layer.expected, candidates.found[layer.value], share), layer.value
        raw, scaled = f"adapt_raw_{place}", f"adapt_scaled_{place}"
        for name, array in ((f"{scaled}_by", move.scale), (f"{raw}_by", move.shift)):
            shaped = array.reshape(1, -1, 1, 1).astype(np.float32)
            copy.graph.initializer.append(from_array(shaped, name))
        result[-1].output[0] = raw
        result.append(helper.make_node("Mul", [raw, f"{scaled}_by"], [scaled]))
        result.append(helper.make_node("Add", [scaled, f"{raw}_by"], [value]))
    kept = [type(node).FromString(node.SerializeToString()) for node in result]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy
