"""The chain of operators at a network's end: what it does to the class axis, step by step.

`walk_back` collects the operators from the output back to the class logits; `follow` goes forward
again and checks each one. Whatever is not provably a per-pixel, order-keeping step ends the chain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from segedge.convert.passes.graph import Model, Node, Value, attribute, constant, opset_of

_POINTWISE = ("Identity", "Cast", "Softmax", "LogSoftmax", "Sigmoid", "Transpose", "Squeeze")
_CHAIN = (*_POINTWISE, "Unsqueeze", "ArgMax", "TopK", "Greater", "GreaterOrEqual")
_FLOATS = (1, 10, 11, 16)
"""ONNX element types float, float16, double, bfloat16."""


@dataclass(frozen=True)
class Link:
    """One operator of the chain."""

    node: Node
    result: Value
    """The output of the node that the chain goes on with."""

    @property
    def source(self) -> Value:
        """The value that the node works on."""
        return self.node.inputs[0]


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


def walk_back(output: Value) -> list[Link]:
    """The chain from the class logits to an output, in the order of computation.

    It ends behind the first operator that is none of the tail's; a Resize is included, as its
    first link, and never gone behind.
    """
    links: list[Link] = []
    value = output
    while (node := value.producer()) is not None:
        if node.domain not in ("", "ai.onnx") or node.op_type not in (*_CHAIN, "Resize"):
            break
        if node.op_type == "TopK" and value is not node.outputs[1]:
            break
        if node.inputs[0] is None or constant(node.inputs[0]) is not None:
            break
        links.append(Link(node, value))
        value = node.inputs[0]
        if node.op_type == "Resize":
            break
    return links[::-1]


def follow(model: Model, links: list[Link], start: TailState) -> TailState | str:
    """What the chain makes of its input, or why it cannot be followed, in a few words.

    A Resize may only be its first link.
    """
    state = start
    for link in links:
        after = _step(link.node, state, opset_of(model))
        if isinstance(after, str):
            return after
        state = after
    return state


def describe(links: list[Link]) -> tuple[str, ...]:
    """Names of the operators for people, without those that only shuffle axes or types."""
    quiet = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Resize")
    return tuple(link.node.op_type for link in links if link.node.op_type not in quiet)


def _step(node: Node, state: TailState, opset: int) -> TailState | str:
    """The state behind one operator, or why there is none."""
    op = node.op_type
    if op in ("Identity", "Resize"):
        return state
    if op == "Cast":
        floats = attribute(node, "to", 1) in _FLOATS
        return state if state.labels or floats else "logits are cast to integers"
    if op in ("Softmax", "LogSoftmax", "Sigmoid"):
        return _activation(node, state, opset)
    if op in ("ArgMax", "TopK"):
        return _labels(node, state)
    if op in ("Greater", "GreaterOrEqual"):
        return _threshold(node, state)
    if op == "Transpose":
        return _transpose(node, state)
    return _squeeze(node, state) if op == "Squeeze" else _unsqueeze(node, state)


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
    """One channel above 0, or above 0.5 behind a sigmoid, is label 1."""
    limit = constant(node.inputs[1])
    expected = {"sigmoid": 0.5, "": 0.0}.get(state.activation)
    if state.channels != 1 or state.labels or limit is None or limit.size != 1:
        return f"{node.op_type} is no threshold of one channel"
    if expected is None or float(limit.reshape(-1)[0]) != expected:
        return f"the threshold is {float(limit.reshape(-1)[0]):g}, not {expected}"
    return replace(state, labels=True)


def _transpose(node: Node, state: TailState) -> TailState:
    order = attribute(node, "perm", None) or tuple(reversed(range(state.rank)))
    axis = None if state.class_axis is None else tuple(order).index(state.class_axis)
    return replace(state, class_axis=axis)


def _squeeze(node: Node, state: TailState) -> TailState | str:
    axes = _axes(node, state.rank)
    if axes is None:
        return "Squeeze without known axes"
    axis = state.class_axis
    if axis in axes and not state.labels and state.channels != 1:
        return "Squeeze of the class axis"
    if axis is not None:
        axis = None if axis in axes else axis - sum(a < axis for a in axes)
    return replace(state, class_axis=axis, rank=state.rank - len(axes))


def _unsqueeze(node: Node, state: TailState) -> TailState | str:
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    count = len(attribute(node, "axes", ())) if given is None else given.size
    axes = _axes(node, state.rank + count)
    if not axes:
        return "Unsqueeze without known axes"
    axis = state.class_axis
    if axis is not None:
        kept = [position for position in range(state.rank + count) if position not in axes]
        axis = kept[axis]
    return replace(state, class_axis=axis, rank=state.rank + count)


def _axes(node: Node, rank: int) -> tuple[int, ...] | None:
    """The axes of Squeeze or Unsqueeze, an attribute before opset 13 and an input since."""
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = attribute(node, "axes", None) if given is None else given.reshape(-1).tolist()
    return None if axes is None else tuple(int(axis) % rank for axis in axes)
