"""Where Q/DQ pairs go: which layers compute in int8, and which tensors share a scale.

A *layer* is a Conv or ConvTranspose with constant weights. Its *unit* ends behind the Relu or Clip
that alone reads it, because every runtime computes the two as one. A *join* is an Add, Concat or
MaxPool; it runs in int8 where that saves leaving int8 and coming back, and then its inputs and its
output share one scale. Everything else (Resize, softmax, norms, pooling means, other activations)
computes in float.

What an int8 layer reads is quantized, and what it gives where an int8 layer or join reads that.
If only float layers read it, it stays float: such a Conv has int8 inputs and a float output.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from segedge.errors import ModelError, UsageError, nearest_name
from segedge.graph.kit import (
    FLOAT,
    Node,
    Value,
    attribute,
    forget_shapes,
    inferred,
    ir,
    shape_of,
    values_of,
)
from segedge.graph.typed import TypedGraph, data_inputs, float_outputs, is_weight

LAYER_OPS = ("Conv", "ConvTranspose")
_JOINS = ("Add", "Concat", "MaxPool")
_FUSED = ("Relu", "Clip")


@dataclass(frozen=True)
class Layer:
    """A layer that could compute in int8."""

    name: str
    """Its node's name."""
    op: str
    """Its operator."""
    source: str
    """The value that it reads."""
    weight: str
    """Name of its weights."""
    weight_axis: int
    """Axis of the weights that holds the output channels."""
    output: str
    """The value behind it and the Relu or Clip that is computed with it."""
    macs: int
    """Multiplications of one image at the card's size."""
    reason: str = ""
    """Why it stays float whatever is measured; empty where it need not."""


@dataclass(frozen=True)
class Join:
    """An Add, Concat or MaxPool."""

    name: str
    """Its node's name."""
    op: str
    """Its operator."""
    sources: tuple[str, ...]
    """The values that it reads."""
    output: str
    """The value behind it and its Relu or Clip."""


@dataclass(frozen=True)
class Placement:
    """Which layers and joins compute in int8, and which values are quantized for them."""

    int8: frozenset[str]
    """Names of the layers and joins in int8."""
    groups: tuple[tuple[str, ...], ...]
    """Quantized values; those of one group share their scale. In the order of the graph."""
    made: frozenset[str]
    """Quantized values that int8 layers and joins give: every reader gets them as int8."""

    @property
    def values(self) -> tuple[str, ...]:
        """All quantized values."""
        return tuple(name for group in self.groups for name in group)


def find_layers(
    graph: TypedGraph,
    input_shape: Sequence[int],
    *,
    keep: Sequence[str] = (),
    classifier: bool = False,
) -> tuple[Layer, ...]:
    """The layers of a graph in its order, with the reasons of those that must stay float.

    Multiplications are counted at the shape of one image. ``keep`` holds patterns (as of the shell)
    of names that stay float; ``classifier``: the last layers before the outputs may be int8, too.
    """
    nodes = [n for n in graph.nodes if n.op_type in LAYER_OPS and _has_weights(n)]
    _check_patterns(keep, [node.name for node in nodes])
    shapes = _shapes(graph, input_shape)
    last = _classifiers(graph, {node.name for node in nodes})
    layers = []
    for node in nodes:
        pattern = next((p for p in keep if fnmatchcase(node.name, p)), None)
        reason = ""
        if pattern is not None:
            reason = f"asked for: {pattern}"
        elif node.name in last and not classifier:
            reason = "the classifier: its error goes straight into the logits"
        elif node.op_type == "ConvTranspose" and group_of(node) > 1:
            reason = "a grouped ConvTranspose has no scale a channel"
        layers.append(
            Layer(
                name=node.name,
                op=node.op_type,
                source=node.inputs[0].name,
                weight=node.inputs[1].name,
                weight_axis=0 if node.op_type == "Conv" else 1,
                output=_unit_output(graph, node).name,
                macs=_macs(node, shapes),
                reason=reason,
            )
        )
    return tuple(layers)


def place(graph: TypedGraph, layers: Sequence[Layer], *, kept: Collection[str] = ()) -> Placement:
    """Decide what is quantized, given the layers that stay float."""
    chosen = [layer for layer in layers if not layer.reason and layer.name not in kept]
    joins = _useful_joins(graph, chosen)
    wanted = {layer.source for layer in chosen} | {s for join in joins for s in join.sources}
    outputs = {layer.output for layer in chosen} | {join.output for join in joins}
    made = outputs & wanted
    union = _Union()
    for name in wanted:
        union.add(name)
    for join in joins:
        for source in join.sources:
            union.join(join.output, source)
    names = frozenset([layer.name for layer in chosen] + [join.name for join in joins])
    return Placement(names, union.groups(_order(graph)), frozenset(made))


def _useful_joins(graph: TypedGraph, chosen: Sequence[Layer]) -> list[Join]:
    """The joins that read int8 and are read by int8: all at first, until no more must go."""
    joins = [join for node in graph.nodes if (join := _join(graph, node)) is not None]
    while True:
        given = {layer.output for layer in chosen} | {join.output for join in joins}
        read = {layer.source for layer in chosen} | {s for join in joins for s in join.sources}
        left = [j for j in joins if j.output in read and _is_fed(j, given)]
        if len(left) == len(joins):
            return joins
        joins = left


def _is_fed(join: Join, given: Collection[str]) -> bool:
    """Whether the inputs come in int8: all of a sum's; of a Concat one is worth it."""
    fed = [source in given for source in join.sources]
    return any(fed) if join.op == "Concat" else all(fed)


def _join(graph: TypedGraph, node: Node) -> Join | None:
    if node.op_type not in _JOINS or not float_outputs(node):
        return None
    sources = data_inputs(node)
    if len(sources) != sum(value is not None for value in node.inputs) or len(node.outputs) > 1:
        return None  # a constant among them, or MaxPool's indices
    if node.op_type == "Add" and not _same_shape(sources):
        return None
    output = _unit_output(graph, node) if node.op_type == "Add" else node.outputs[0]
    return Join(node.name, node.op_type, tuple(value.name for value in sources), output.name)


def _same_shape(values: Sequence[Value]) -> bool:
    """Whether values have one known shape: a broadcast sum is no residual one."""
    return values[0].shape is not None and all(value.shape == values[0].shape for value in values)


def _unit_output(graph: TypedGraph, node: Node) -> Value:
    """A node's output, or that of the Relu or Clip that alone reads it."""
    output = node.outputs[0]
    readers = graph.readers[output]
    if len(readers) == 1 and readers[0].op_type in _FUSED and not output.is_graph_output():
        first, *bounds = readers[0].inputs
        if first is output and all(bound is None or is_weight(bound) for bound in bounds):
            return readers[0].outputs[0]
    return output


def _has_weights(node: Node) -> bool:
    return node.inputs[0].dtype == FLOAT and is_weight(node.inputs[1])


def _classifiers(graph: TypedGraph, layers: Collection[str]) -> set[str]:
    """The layers that an output is computed from without another layer in between."""
    found: set[str] = set()
    todo, seen = list(graph.model.graph.outputs), set[Value]()
    while todo:
        value = todo.pop()
        node = None if value is None else value.producer()
        if node is None or value in seen:
            continue
        seen.add(value)
        if node.name in layers:
            found.add(node.name)
        else:
            todo += node.inputs
    return found


def _check_patterns(keep: Sequence[str], names: list[str]) -> None:
    for pattern in keep:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = nearest_name(pattern, names)
            raise UsageError(
                f"no layer fits the pattern {pattern!r}"
                + (f"; did you mean {near!r}?" * bool(near)),
                facts={"layers": f"{len(names)}" + (f", e.g. {names[0]}" if names else "")},
                fix="a name, or a pattern such as '*classifier*'",
            )


def _shapes(graph: TypedGraph, input_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Shapes of the values at one input shape; without those that inference cannot tell."""
    copy = graph.model.clone()
    copy.graph.inputs[0].shape = ir().Shape(input_shape)
    forget_shapes(copy)
    try:
        known = inferred(copy, data_prop=True)
    except Exception as error:  # inference raises classes of its own
        raise ModelError(
            f"the network has no shapes at input {'x'.join(map(str, input_shape))}",
            facts={"says": " ".join(str(error).split())[:200]},
        ) from error
    shapes = {value.name: shape_of(value) or () for value in values_of(known)}
    return {name: tuple(filter(None, axes)) for name, axes in shapes.items() if axes and all(axes)}


def _macs(node: Node, shapes: dict[str, tuple[int, ...]]) -> int:
    """Weights times positions: of the output, or of the input where the layer transposes."""
    where = node.outputs[0] if node.op_type == "Conv" else node.inputs[0]
    positions = math.prod(shapes.get(where.name, (1, 1))[2:])
    return int(node.inputs[1].const_value.size * positions)


def group_of(node: Node) -> int:
    """Groups of a Conv or ConvTranspose."""
    return int(attribute(node, "group", 1))


def _order(graph: TypedGraph) -> dict[str, int]:
    return {name: number for number, name in enumerate(graph.values)}


class _Union:
    """Sets of values, joined."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def add(self, name: str) -> None:
        self._parent.setdefault(name, name)

    def root(self, name: str) -> str:
        self.add(name)
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def join(self, one: str, two: str) -> None:
        self._parent[self.root(one)] = self.root(two)

    def groups(self, order: dict[str, int]) -> tuple[tuple[str, ...], ...]:
        found: dict[str, list[str]] = {}
        for name in sorted(self._parent, key=lambda n: order[n]):
            found.setdefault(self.root(name), []).append(name)
        return tuple(map(tuple, found.values()))
