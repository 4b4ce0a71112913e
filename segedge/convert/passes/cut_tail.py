"""Cutting the tail: the final upsample, softmax and argmax leave the graph (DESIGN section 5).

`segedge.convert.passes.find_head` says where the graph shall end. That the tail's labels are those
of the original is measured by the parity check afterwards.
"""

from __future__ import annotations

from segedge.convert.passes.base import Pass
from segedge.convert.passes.head import FoundHead
from segedge.graph.kit import Model, drop_dead, image_input, ir, shape_of
from segedge.graph.operators import append


def cut_tail(head: FoundHead) -> Pass:
    """End the graph at its class logits, or at what is put behind them."""
    tail = head.facts.tail

    def effect(model: Model) -> str:
        end = head.end
        for operator in head.behind:
            end = append(model, end, operator)
        if _is_static(model) and head.shape is not None:  # what inference may not find out
            end.shape = ir().Shape(head.shape)
        model.graph.outputs[:] = [end]
        drop_dead(model)
        return ", ".join(tail.removed)

    def ensures(model: Model) -> bool:
        last = model.graph.outputs[0].producer()
        return last is None or not head.behind or last.op_type == head.behind[-1].op

    return Pass("cut the tail", effect, ensures=ensures, idle=tail.reason)


def _is_static(model: Model) -> bool:
    return None not in (shape_of(image_input(model)) or (None,))
