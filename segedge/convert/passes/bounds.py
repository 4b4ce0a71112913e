"""Between which numbers a value of a graph can lie, as far as its operators say so."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from segedge.graph.kit import Node, Value, attribute, constant

Bounds = tuple[float, float]
_ALL: Bounds = (-math.inf, math.inf)
_DEPTH = 64
"""Operators that are looked through; deeper, nothing is said."""
_FIXED: dict[str, Bounds] = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax"), (0.0, 1.0)),
    **dict.fromkeys(("Tanh", "Softsign", "Erf", "Sin", "Cos"), (-1.0, 1.0)),
    **dict.fromkeys(("Exp", "Softplus", "Sqrt"), (0.0, math.inf)),
    **dict.fromkeys(
        ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Not"),
        (0.0, 1.0),
    ),
}
_OF_FIRST = (
    "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice",
    "Gather", "Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool",
    "GlobalMaxPool", "GlobalAveragePool", "ReduceMax", "ReduceMin", "ReduceMean",
)  # fmt: skip
"""What only chooses among the values of its first input, or averages them."""
_OF_ALL = ("Max", "Min", "Mean", "Concat", "Where")
"""The same of all inputs, but for the condition of Where."""


def bounds(value: Value, depth: int = _DEPTH) -> Bounds:
    """Lowest and highest number that a value can hold; infinite where nothing says so."""
    known = constant(value)
    if known is not None:
        return (float(np.min(known)), float(np.max(known))) if known.size else _ALL
    node = value.producer()
    if node is None or depth == 0 or node.domain not in ("", "ai.onnx"):
        return _ALL
    if node.op_type in _FIXED:
        return _FIXED[node.op_type]
    own = _OWN.get(node.op_type)
    if own is not None:
        return own(node, depth - 1)
    if node.op_type in _OF_FIRST:
        return bounds(node.inputs[0], depth - 1)
    if node.op_type in _OF_ALL:
        return _hull(node.inputs[node.op_type == "Where" :], depth - 1)
    return _ALL


def _hull(values: list[Value], depth: int) -> Bounds:
    found = [bounds(value, depth) for value in values]
    return min(low for low, _ in found), max(high for _, high in found)


def _pair(node: Node, depth: int) -> tuple[Bounds, Bounds]:
    return bounds(node.inputs[0], depth), bounds(node.inputs[1], depth)


def _add(node: Node, depth: int) -> Bounds:
    (a, b), (c, d) = _pair(node, depth)
    return a + c, b + d


def _sub(node: Node, depth: int) -> Bounds:
    """A difference; of a value and its own least, or of its largest and itself, never below 0."""
    (a, b), (c, d) = _pair(node, depth)
    first, second = (_whole(value) for value in node.inputs[:2])
    ordered = second[1] == "ReduceMin" or first[1] == "ReduceMax"
    low = 0.0 if ordered and first[0] is second[0] else -math.inf
    return max(low, a - d), b - c


def _whole(value: Value) -> tuple[Value, str]:
    """What a value is the least or largest of, and which of both; itself where neither."""
    node = value.producer()
    while node is not None and node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Identity"):
        value = node.inputs[0]
        node = value.producer()
    if node is not None and node.op_type in ("ReduceMin", "ReduceMax"):
        return node.inputs[0], str(node.op_type)
    return value, ""


def _mul(node: Node, depth: int) -> Bounds:
    (a, b), (c, d) = _pair(node, depth)
    # Infinity times zero: the factor is zero whatever the other is.
    products = [0.0 if 0.0 in (x, y) else x * y for x in (a, b) for y in (c, d)]
    return min(products), max(products)


def _div(node: Node, depth: int) -> Bounds:
    (a, b), (c, d) = _pair(node, depth)
    if c > 0:
        ends = [x / y for x in (a, b) for y in (c, d) if not (math.isinf(x) and math.isinf(y))]
        low, high = min(ends, default=0.0), max(ends, default=0.0)
        return (-math.inf if a == -math.inf else low), (math.inf if b == math.inf else high)
    return (0.0, math.inf) if c >= 0 and a >= 0 else _ALL


def _neg(node: Node, depth: int) -> Bounds:
    low, high = bounds(node.inputs[0], depth)
    return -high, -low


def _relu(node: Node, depth: int) -> Bounds:
    low, high = bounds(node.inputs[0], depth)
    return max(low, 0.0), max(high, 0.0)


def _abs(node: Node, depth: int) -> Bounds:
    low, high = bounds(node.inputs[0], depth)
    return max(0.0, low, -high), max(abs(low), abs(high))


def _clip(node: Node, depth: int) -> Bounds:
    low, high = bounds(node.inputs[0], depth)
    limits = []
    for index, name in ((1, "min"), (2, "max")):
        given = node.inputs[index] if len(node.inputs) > index else None
        found = attribute(node, name, None) if given is None else constant(given)
        limits.append(None if found is None else float(np.max(found)))
    if limits[0] is not None:
        low, high = max(low, limits[0]), max(high, limits[0])
    if limits[1] is not None:
        low, high = min(low, limits[1]), min(high, limits[1])
    return low, high


def _padded(node: Node, depth: int) -> Bounds:
    """Of averages and paddings: zeros may come in."""
    low, high = bounds(node.inputs[0], depth)
    filled = constant(node.inputs[2]) if node.op_type == "Pad" and len(node.inputs) > 2 else None
    extra = 0.0 if filled is None or not filled.size else float(np.max(filled))
    return min(low, extra), max(high, extra)


def _decoded(node: Node, depth: int) -> Bounds:
    """Of codes: what was encoded, but for rounding."""
    encoder = node.inputs[0].producer()
    is_pair = encoder is not None and encoder.op_type == "QuantizeLinear"
    return bounds(encoder.inputs[0], depth) if is_pair else _ALL


def _resize(node: Node, depth: int) -> Bounds:
    mode = attribute(node, "mode", "nearest")
    return _ALL if mode == "cubic" else bounds(node.inputs[0], depth)


def _pow(node: Node, depth: int) -> Bounds:
    exponent = constant(node.inputs[1])
    low, high = bounds(node.inputs[0], depth)
    if exponent is None or exponent.size != 1:
        return _ALL
    power = float(exponent.reshape(-1)[0])
    if low >= 0 and power > 0:
        return low**power, high**power
    return (0.0, math.inf) if power % 2 == 0 else _ALL


def _sum(node: Node, depth: int) -> Bounds:
    low, high = bounds(node.inputs[0], depth)
    return (0.0 if low >= 0 else -math.inf), (0.0 if high <= 0 else math.inf)


_OWN: dict[str, Callable[[Node, int], Bounds]] = {
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Neg": _neg,
    "Relu": _relu,
    "Abs": _abs,
    "Clip": _clip,
    "Pad": _padded,
    "AveragePool": _padded,
    "Resize": _resize,
    "Upsample": _resize,
    "DequantizeLinear": _decoded,
    "Pow": _pow,
    "ReduceSum": _sum,
}
