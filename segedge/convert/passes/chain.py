"""The chain of operators at a network's end: what it does to the class axis, step by step.

`walk_back` collects the operators from the output back to the class logits; `follow` goes forward
again and checks each one. Whatever is not provably a per-pixel, order-keeping step ends the chain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from segedge.graph.kit import Model, Node, Value, attribute, constant, opset_of

_RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
_THRESHOLDS = {"Greater": (0, 1), "GreaterOrEqual": (0, 1), "Less": (1, 0), "LessOrEqual": (1, 0)}
"""Comparisons with a constant, to what they write below and above it."""
_OF_MASKS = ("Not", "Mul", "Where")
_CODES = ("QuantizeLinear", "DequantizeLinear")
_CHAIN = (
    "Identity", "Cast", "Softmax", "LogSoftmax", "Sigmoid", "Transpose", "ArgMax", "TopK", "Round",
    "Resize", *_RESHAPES, *_THRESHOLDS, *_OF_MASKS, *_CODES,
)  # fmt: skip
_FLOATS = (1, 10, 11, 16)
"""ONNX element types float, float16, double, bfloat16."""
_SPACING = {10: 2.0**-10, 16: 2.0**-7}
"""Of float16 and bfloat16: how far neighbouring values are apart, as a share of themselves."""
Shapes = Mapping[str, tuple[int, ...]]
"""Real shapes of values, by name."""


@dataclass(frozen=True)
class Link:
    """One operator of the chain."""

    node: Node
    result: Value
    """The output of the node that the chain goes on with."""

    @property
    def source(self) -> Value:
        """The value that the node works on."""
        return _source(self.node)


@dataclass(frozen=True)
class Rounding:
    """What an operator behind the logits did to them: clipped, and rounded to steps."""

    activation: str
    """What had been done to the logits by then, as in `TailState`."""
    step: float
    """The largest distance of two neighbouring values."""
    lowest: tuple[float, ...]
    """One, or one a class."""
    highest: tuple[float, ...]
    share: float = 0.0
    """What comes to the step in proportion to the values' size."""


@dataclass(frozen=True)
class TailState:
    """What the values are at some point of the chain."""

    class_axis: int | None
    """Where the classes are; None once they are gone."""
    rank: int
    """Number of axes."""
    channels: int
    """Number of class channels."""
    activation: str = ""
    """softmax, log_softmax, sigmoid, or empty for raw logits."""
    labels: bool = False
    """Whether the values are labels already."""
    threshold: float | None = None
    """Of a one-channel mask: the value from which on a pixel is of the second class."""
    written: tuple[float, float] = (0, 1)
    """What a one-channel mask holds below and above the threshold."""
    roundings: tuple[Rounding, ...] = ()
    """By quantization, in order."""


def walk_back(output: Value) -> list[Link]:
    """The chain from the class logits to an output, in the order of computation.

    It ends behind the first operator that is none of the tail's; a Resize is included, as its
    first link, and never gone behind.
    """
    links: list[Link] = []
    value = output
    while (node := value.producer()) is not None:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _CHAIN:
            break
        if node.op_type == "TopK" and value is not node.outputs[1]:
            break
        source = _source(node)
        if source is None or constant(source) is not None or not _is_tail(node, source):
            break
        links.append(Link(node, value))
        value = source
        if node.op_type == "Resize":
            break
    return links[::-1]


def _source(node: Node) -> Value:
    """The input that the chain comes from: of a product the one that is computed."""
    if node.op_type == "Mul" and constant(node.inputs[0]) is not None:
        return node.inputs[1]
    return node.inputs[0]


def _is_tail(node: Node, source: Value) -> bool:
    """Whether an operator that networks use elsewhere, too, works on a mask here."""
    of_masks = _OF_MASKS if node.op_type in _OF_MASKS else ()
    moves = ("Cast", "Identity", "Transpose", *_RESHAPES, *of_masks)
    while (before := source.producer()) is not None and before.op_type in moves:
        source = _source(before)
    made_by = "" if before is None else before.op_type
    if node.op_type == "Round":
        return made_by == "Sigmoid"
    return node.op_type not in _OF_MASKS or made_by in _THRESHOLDS


def follow(model: Model, links: list[Link], start: TailState, shapes: Shapes) -> TailState | str:
    """What the chain makes of its input, or why it cannot be followed, in a few words.

    A Resize may only be its first link.
    """
    state = start
    for link in links:
        after = _step(link, state, opset_of(model), shapes)
        if isinstance(after, str):
            return after
        state = after
    return state


def describe(links: list[Link]) -> tuple[str, ...]:
    """Names of the operators for people, without those that only shuffle axes or types."""
    quiet = ("Identity", "Cast", "Resize", "DequantizeLinear", *_RESHAPES)
    return tuple(link.node.op_type for link in links if link.node.op_type not in quiet)


def is_code(link: Link) -> bool:
    """Whether an operator only goes from numbers to their codes or back."""
    return link.node.op_type in _CODES


def _step(link: Link, state: TailState, opset: int, shapes: Shapes) -> TailState | str:
    """The state behind one operator, or why there is none."""
    node, op = link.node, link.node.op_type
    if op in ("Identity", "Resize"):
        return state
    if op == "Cast":
        return _cast(state, int(attribute(node, "to", 1)))
    if op in ("Softmax", "LogSoftmax", "Sigmoid"):
        return _activation(node, state, opset)
    if op in ("ArgMax", "TopK"):
        return _labels(node, state)
    if op in _THRESHOLDS or op == "Round":
        return _threshold(node, state)
    if op in _OF_MASKS:
        return _rewritten(node, state)
    if op in _CODES:
        return _rounded(node, state)
    if op == "Transpose":
        return _transpose(node, state)
    return _reshape(op, state, shapes[link.source.name], shapes[link.result.name])


def _activation(node: Node, state: TailState, opset: int) -> TailState | str:
    """Softmax along the class axis, or sigmoid: both keep the order of the classes."""
    if state.labels or state.activation:
        return f"a second activation ({node.op_type})"
    if node.op_type == "Sigmoid":
        return replace(state, activation="sigmoid")
    # Before opset 13 softmax ran over all axes from this one on, and the default was 1.
    axis = attribute(node, "axis", -1 if opset >= 13 else 1) % state.rank
    if axis != state.class_axis or (opset < 13 and axis != state.rank - 1):
        return f"{node.op_type} is not over the classes"
    return replace(state, activation="softmax" if node.op_type == "Softmax" else "log_softmax")


def _labels(node: Node, state: TailState) -> TailState | str:
    """ArgMax, or TopK with k = 1, over the classes."""
    default = 0 if node.op_type == "ArgMax" else -1
    if state.labels or attribute(node, "axis", default) % state.rank != state.class_axis:
        return f"{node.op_type} is not over the classes"
    if node.op_type == "TopK":
        k = constant(node.inputs[1])
        if (
            k is None
            or k.size != 1
            or int(k.reshape(-1)[0]) != 1
            or not attribute(node, "largest", 1)
        ):
            return "TopK is not the largest one"
        return replace(state, labels=True)
    if attribute(node, "select_last_index", 0):
        return "ArgMax takes the last of equals"
    if attribute(node, "keepdims", 1):
        return replace(state, labels=True)
    return replace(state, labels=True, class_axis=None, rank=state.rank - 1)


def _threshold(node: Node, state: TailState) -> TailState | str:
    """One channel above a constant is of the second class."""
    limit = np.array(0.5) if node.op_type == "Round" else constant(node.inputs[1])
    if state.channels != 1 or state.labels or limit is None or limit.size != 1:
        return f"{node.op_type} is no threshold of one channel"
    threshold = float(limit.reshape(-1)[0])
    if state.activation == "sigmoid":
        if not 0.0 < threshold < 1.0:
            return f"the threshold of a sigmoid is {threshold:g}"
        threshold = math.log(threshold / (1.0 - threshold))
    elif state.activation:
        return f"{node.op_type} behind {state.activation}"
    written = _THRESHOLDS.get(node.op_type, (0, 1))
    return replace(state, labels=True, threshold=threshold, written=written)


def _rewritten(node: Node, state: TailState) -> TailState | str:
    """A two-class mask with other numbers in it: 0 and 255, say, or the other way round."""
    low, high = state.written
    if state.threshold is None:
        return f"{node.op_type} of labels"
    if node.op_type == "Not":
        return replace(state, written=(float(not low), float(not high)))
    inputs = node.inputs[1:] if node.op_type == "Where" else node.inputs
    numbers = [float(a.item()) for v in inputs if (a := constant(v)) is not None and a.size == 1]
    if node.op_type == "Mul" and len(numbers) == 1:
        written = (low * numbers[0], high * numbers[0])
    elif node.op_type == "Where" and len(numbers) == 2:
        yes, no = numbers
        written = (yes if low else no, yes if high else no)
    else:
        return f"{node.op_type} of a mask with something computed"
    return (
        f"{node.op_type} makes a mask all the same"
        if len({*written}) == 1
        else replace(state, written=written)
    )


def _rounded(node: Node, state: TailState) -> TailState | str:
    """Numbers to codes, which keeps the order up to a step; codes back to numbers."""
    scale = constant(node.inputs[1])
    if state.labels or scale is None or not np.all(scale > 0):
        return f"{node.op_type} of labels" if state.labels else "a scale that is not known"
    if scale.size > 1 and attribute(node, "axis", 1) % state.rank != state.class_axis:
        return f"{node.op_type} has scales along another axis than the classes"
    if node.op_type == "DequantizeLinear":
        return state
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
    if zero is None or zero.dtype not in (np.uint8, np.int8, np.uint16, np.int16):
        return "codes of a type that is not known"
    limits, scale = np.iinfo(zero.dtype), scale.astype(np.float64).reshape(-1)
    lowest, highest = (
        tuple((scale * (end - zero.reshape(-1).astype(np.float64))).tolist())
        for end in (limits.min, limits.max)
    )
    if len({*lowest}) > 1 or len({*highest}) > 1:  # what is clipped loses to what is not yet
        return f"{node.op_type} clips each class at a value of its own"
    rounding = Rounding(state.activation, float(scale.max()), lowest, highest)
    return replace(state, roundings=(*state.roundings, rounding))


def _cast(state: TailState, to: int) -> TailState | str:
    """Another type: of fewer bits, it rounds."""
    if state.labels:
        return state
    if to not in _FLOATS:
        return "logits are cast to integers"
    if to not in _SPACING:
        return state
    rounding = Rounding(state.activation, 0.0, (-math.inf,), (math.inf,), _SPACING[to])
    return replace(state, roundings=(*state.roundings, rounding))


def _transpose(node: Node, state: TailState) -> TailState:
    order = attribute(node, "perm", None) or tuple(reversed(range(state.rank)))
    axis = None if state.class_axis is None else tuple(order).index(state.class_axis)
    return replace(state, class_axis=axis)


def _reshape(
    op: str, state: TailState, source: tuple[int, ...], result: tuple[int, ...]
) -> TailState | str:
    """Axes that come, go, and are put together, while the classes stay an axis of their own."""
    axis = state.class_axis
    if axis is None:
        return replace(state, rank=len(result))
    count, before = source[axis], math.prod(source[:axis])
    fitting = [
        i for i, length in enumerate(result) if length == count and math.prod(result[:i]) == before
    ]
    if count == 1:
        axis = axis if axis in fitting else None
    elif len(fitting) != 1:
        return f"{op} mixes the classes with other axes"
    else:
        axis = fitting[0]
    return replace(state, class_axis=axis, rank=len(result))
