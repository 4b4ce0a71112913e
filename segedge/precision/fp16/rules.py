"""Which nodes must stay in fp32, and why.

Each rule adds ``{node name: reason}``; the first reason stays. What a rule knows is in its
docstring. The order matters only for the reason that is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import UsageError, nearest_name
from segedge.graph.kit import Node, Value, attribute
from segedge.graph.typed import (
    STANDARD_DOMAINS,
    TypedGraph,
    data_inputs,
    float_outputs,
    formal_types,
    has_sequence,
    is_float,
    is_float_cast,
    is_frozen,
    is_weight,
)
from segedge.precision.fp16.retype import FP16_MAX

Reasons = dict[str, str]

_REDUCTIONS = (
    "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceProd", "GlobalAveragePool", "GlobalLpPool", "LpPool", "CumSum",
)  # fmt: skip
_NORMS = (
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
    "LpNormalization", "MeanVarianceNormalization", "LRN",
)  # fmt: skip
WIDE_OPS: dict[str, str] = {
    "Softmax": "softmax: exponentials and their sum",
    "LogSoftmax": "softmax: exponentials and their sum",
    **dict.fromkeys(_REDUCTIONS, "a sum over many values"),
    **dict.fromkeys(_NORMS, "a norm: mean and variance over many values"),
    **dict.fromkeys(("Pow", "Exp", "Log", "Softplus"), "leaves the range of fp16 easily"),
    **dict.fromkeys(("Sqrt", "Reciprocal"), "needs the small values that fp16 has not"),
    "GridSample": "sampling positions need more than fp16's 11 bits",
}
"""Operators that stay fp32 in every network, with the reason.

BatchNormalization is not among them: in inference it is one multiplication and one addition."""
_SATURATING = {"Clip", "Min", "Max", "Where", "Pad"}
"""Operators to which a bound beyond fp16's range means the same as 65504."""
ARITHMETIC = "arithmetic on shapes and constants"
_MOVERS = {
    "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Concat",
    "Slice", "Split", "Gather", "Tile",
}  # fmt: skip
_CHEAP = _MOVERS | {"Add", "Sub", "Mul", "Div", "Neg", "Abs", "Max", "Min", "Clip", "Sum"}
_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}


def static_reasons(graph: TypedGraph, keep: Sequence[str]) -> Reasons:
    """What can be said without running the network."""
    reasons: Reasons = {}
    _frozen(graph, reasons)
    _user(graph, keep, reasons)
    _operators(graph, reasons)
    _masks(graph, reasons)
    _arithmetic(graph, reasons)
    _coordinates(graph, reasons)
    _constants(graph, reasons)
    return reasons


def range_reasons(graph: TypedGraph, absmax: Mapping[str, float], limit: float) -> Reasons:
    """Nodes that read or write a value whose measured magnitude is over the limit."""
    reasons: Reasons = {}
    for node in graph.nodes:
        given = [value.name for value in node.outputs]
        names = [n for n in (*given, *(v.name for v in node.inputs if v)) if n in absmax]
        largest = max(names, key=lambda name: absmax[name], default=None)
        if largest is not None and absmax[largest] > limit:
            what = "gives" if largest in given else "reads"
            reasons[node.name] = (
                f"{what} values up to {absmax[largest]:.6g}; the limit is {limit:g}"
            )
        elif node.op_type == "AveragePool" and names:
            window = math.prod(attribute(node, "kernel_shape", ()))
            if absmax[largest or names[0]] * window > FP16_MAX:
                reasons[node.name] = f"sums {window} values up to {absmax[names[-1]]:.6g}"
    return reasons


def close_over(graph: TypedGraph, reasons: Reasons) -> Reasons:
    """Add what lies between nodes that stay fp32, so that no value is narrowed in between.

    Three patterns, until nothing changes: a division by a value computed in fp32 (the end of a
    decomposed norm); a square under a reduction (its variance); and cheap nodes all of whose
    readers, and one or more of whose sources, stay fp32.
    """
    result = dict(reasons)
    rules = {
        "divides by a value computed in fp32": _divides_by_wide,
        "a square under a sum": _is_summed_square,
        "between fp32 layers": _is_between,
    }
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            if node.name in result or not float_outputs(node) or is_float_cast(node):
                continue
            reason = next((r for r, rule in rules.items() if rule(graph, node, result)), None)
            if reason is not None:
                result[node.name] = reason
                changed = True
    return result


def clamped_constants(graph: TypedGraph, wide: Iterable[str]) -> tuple[str, ...]:
    """``name: count of size`` for each constant that is clamped to fp16's range."""
    kept = set(wide)
    found = {
        name: f"{name}: {beyond} of {array.size} values beyond {FP16_MAX:g}"
        for node in graph.nodes
        if node.name not in kept
        for name, array in _weights(graph, node)
        if (beyond := int(np.count_nonzero(_beyond(array))))
    }
    return tuple(found.values())


def lost_weights(graph: TypedGraph, wide: Iterable[str]) -> tuple[int, int, int]:
    """How many weights go to fp16; of these, how many become zero, and how many subnormal."""
    kept = set(wide)
    arrays = {
        name: array
        for node in graph.nodes
        if node.name not in kept
        for name, array in _weights(graph, node)
    }
    total = zero = subnormal = 0
    for array in arrays.values():
        size = np.abs(array[array != 0].astype(np.float32))
        narrow = np.minimum(size, FP16_MAX).astype(np.float16)
        total += array.size
        zero += int(np.count_nonzero(narrow == 0))
        subnormal += int(np.count_nonzero((narrow > 0) & (narrow < np.finfo(np.float16).tiny)))
    return total, zero, subnormal


def _add(reasons: Reasons, node: Node, reason: str) -> None:
    reasons.setdefault(node.name, reason)


def _frozen(graph: TypedGraph, reasons: Reasons) -> None:
    """Subgraphs and custom operators, and standard ones that ONNX does not define for fp16."""
    for node in graph.nodes:
        if is_frozen(node):
            reason = "works on sequences" if has_sequence(node) else "holds subgraphs"
            own = node.domain in STANDARD_DOMAINS
            _add(reasons, node, reason if own else f"custom operator of {node.domain}")
        elif not _takes_fp16(graph, node):
            _add(reasons, node, f"ONNX {graph.opset} does not define it for fp16")


def _takes_fp16(graph: TypedGraph, node: Node) -> bool:
    """Whether a node can compute in fp16, its float outputs following its float inputs.

    False also where the output's type comes from an attribute (RandomNormal, EyeLike ...).
    """
    inputs, outputs, allowed = formal_types(node, graph.opset)
    variables = {v for v, one in zip(inputs, node.inputs, strict=True) if is_float(one)}
    made = {v for v, one in zip(outputs, node.outputs, strict=True) if is_float(one)}
    if not variables and not made:
        return True
    if any("tensor(float16)" not in allowed[v] for v in variables | made if v in allowed):
        return False
    return made <= variables or node.op_type in ("Cast", *_QUANTIZERS)


def _user(graph: TypedGraph, keep: Sequence[str], reasons: Reasons) -> None:
    """The user's patterns, on names and on operators."""
    for pattern in keep:
        hits = [
            node
            for node in graph.nodes
            if fnmatchcase(node.name, pattern) or fnmatchcase(node.op_type, pattern)
        ]
        if not hits:
            names = sorted({n.op_type for n in graph.nodes} | {n.name for n in graph.nodes})
            near = nearest_name(pattern, names)
            raise UsageError(
                f"no layer fits the pattern {pattern!r}"
                + (f"; did you mean {near!r}?" * bool(near)),
                facts={"layers": f"{len(graph.nodes)}, e.g. {graph.nodes[0].name}"},
                fix="a name, an operator such as Softmax, or a pattern such as '*attention*'",
            )
        for node in hits:
            _add(reasons, node, f"asked for: {pattern}")


def _operators(graph: TypedGraph, reasons: Reasons) -> None:
    for node in graph.nodes:
        if node.op_type in WIDE_OPS and float_outputs(node):
            _add(reasons, node, WIDE_OPS[node.op_type])


def _masks(graph: TypedGraph, reasons: Reasons) -> None:
    """The sum over queries of a class's share times a mask's probability, and that sigmoid."""
    for node in graph.nodes:
        makers = [_computer(value) for value in node.inputs] if node.op_type == "MatMul" else []
        if sorted(maker.op_type for maker in makers if maker) == ["Sigmoid", "Softmax"]:
            for each in (node, *makers):
                reasons.setdefault(each.name, "masks and classes: sums of probabilities")


def _computer(value: Value) -> Node | None:
    """The node that computes a value; those that only move it are passed over."""
    node = value.producer()
    while node is not None and node.op_type in _MOVERS:
        node = node.inputs[0].producer()
    return node


def _arithmetic(graph: TypedGraph, reasons: Reasons) -> None:
    """Float nodes that no pixel reaches: shape arithmetic and constants, folded by any compiler."""
    reached = set(graph.model.graph.inputs)
    for node in graph.nodes:
        if node.op_type in ("Shape", "Size"):
            continue
        if reached.intersection(node.inputs) or is_frozen(node):
            reached.update(node.outputs)
        elif float_outputs(node) and node.op_type not in _QUANTIZERS:
            _add(reasons, node, ARITHMETIC)


def _coordinates(graph: TypedGraph, reasons: Reasons) -> None:
    """The cheap nodes that prepare GridSample's positions: a flow added to a grid."""
    todo = [n.inputs[1] for n in graph.nodes if n.op_type == "GridSample"]
    while todo:
        node = todo.pop().producer()
        if node is not None and node.op_type in _CHEAP and node.name not in reasons:
            _add(reasons, node, "computes sampling positions")
            todo += data_inputs(node)


def _constants(graph: TypedGraph, reasons: Reasons) -> None:
    """Weights beyond fp16's range, and scalars (an epsilon) that fp16 cannot hold."""
    for node in graph.nodes:
        if node.name in reasons:
            continue
        for name, array in _weights(graph, node):
            if node.op_type not in _SATURATING and np.any(_beyond(array)):
                largest = float(np.max(np.abs(array)))
                _add(reasons, node, f"constant {name} reaches {largest:.6g}; fp16 ends at 65504")
            elif array.size == 1 and _is_too_small(float(array.reshape(-1)[0])):
                _add(reasons, node, f"constant {name} is {float(array.reshape(-1)[0]):.3g}")


def _weights(graph: TypedGraph, node: Node) -> list[tuple[str, NDArray[Any]]]:
    """The float constants that a node would read in fp16."""
    if is_frozen(node):
        return []
    formals, _, allowed = formal_types(node, graph.opset)
    pairs = zip(node.inputs, formals, strict=True)
    read = [value for value, formal in pairs if is_weight(value) and formal in allowed]
    return [(value.name, value.const_value.numpy()) for value in read]


def _beyond(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Finite values that fp16 cannot hold; an infinity it can."""
    return np.asarray(np.isfinite(array) & (np.abs(array.astype(np.float64)) > FP16_MAX))


def _is_too_small(value: float) -> bool:
    """Whether fp16 misses a value by more than a percent: it is zero or subnormal there."""
    if value == 0 or not math.isfinite(value) or abs(value) > 1:
        return False
    return abs(float(np.float16(value)) - value) > 0.01 * abs(value)


def _made_wide(value: Value, reasons: Reasons) -> bool:
    """Whether a value is computed in fp32 from the image."""
    producer = value.producer()
    return producer is not None and reasons.get(producer.name, ARITHMETIC) != ARITHMETIC


def _divides_by_wide(graph: TypedGraph, node: Node, reasons: Reasons) -> bool:
    return node.op_type == "Div" and _made_wide(node.inputs[1], reasons)


def _is_summed_square(graph: TypedGraph, node: Node, reasons: Reasons) -> bool:
    if node.op_type != "Mul" or node.inputs[0] is not node.inputs[1]:
        return False
    readers = graph.readers[node.outputs[0]]
    return any(reader.op_type in _REDUCTIONS and reader.name in reasons for reader in readers)


def _is_between(graph: TypedGraph, node: Node, reasons: Reasons) -> bool:
    if node.op_type not in _CHEAP:
        return False
    readers = [reader for value in node.outputs for reader in graph.readers.get(value, [])]
    if not readers or any(value.is_graph_output() for value in node.outputs):
        return False
    fed = any(_made_wide(value, reasons) for value in data_inputs(node))
    return fed and all(r.name in reasons for r in readers)
