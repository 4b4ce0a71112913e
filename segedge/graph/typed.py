"""A graph made ready for rewriting: one level, constants as initializers, every type known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from segedge.card.card import ModelCard
from segedge.card.proof import FilePrecision
from segedge.errors import ModelError
from segedge.graph.kit import (
    FLOAT16,
    FLOATS,
    Model,
    Node,
    Value,
    drop_weights_from_inputs,
    holds,
    inferred,
    ir,
    opset_of,
    run_passes,
    values_by_name,
    values_of,
)
from segedge.machine.optional import require

STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class TypedGraph:
    """A prepared graph, which nobody changes: every value has its type, every node its own name."""

    model: Model

    @property
    def nodes(self) -> Any:
        """The main graph's nodes in topological order."""
        return self.model.graph

    @cached_property
    def opset(self) -> int:
        """Version of the default operator set."""
        return opset_of(self.model)

    @cached_property
    def named(self) -> dict[str, Node]:
        """The main graph's nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def values(self) -> dict[str, Value]:
        """The main graph's values by name."""
        return values_by_name(self.model)

    @cached_property
    def readers(self) -> dict[Value, list[Node]]:
        """Value to the nodes that read it, those that capture it in a subgraph included."""
        found: dict[Value, list[Node]] = {value: [] for value in values_of(self.model)}
        for node in self.nodes:
            for value in dict.fromkeys([*node.inputs, *captured(node)]):
                if value is not None:
                    found[value].append(node)
        return found


def is_float(value: Value | None) -> bool:
    """Whether a value is a tensor of float32 or float16."""
    # The elements of a sequence are of a type, not of a number.
    return value is not None and getattr(value.type, "elem_type", None) in FLOATS


def is_weight(value: Value | None) -> bool:
    """Whether a value is a constant of a float type."""
    return value is not None and value.is_initializer() and is_float(value)


def data_inputs(node: Node) -> list[Value]:
    """A node's float inputs that are no constants."""
    return [v for v in node.inputs if is_float(v) and not v.is_initializer()]


def float_outputs(node: Node) -> list[Value]:
    """A node's outputs of a float type."""
    return [value for value in node.outputs if is_float(value)]


def is_float_cast(node: Node) -> bool:
    """Whether a node only changes between float32 and float16."""
    return node.op_type == "Cast" and all(map(is_float, (*node.inputs, *node.outputs)))


def maker(value: Value) -> str:
    """Who gives a value, for messages."""
    node = value.producer()
    return f"{node.name} ({node.op_type})" if node is not None else f"input {value.name}"


def is_frozen(node: Node) -> bool:
    """Whether a node keeps all its types: a custom operator, one with subgraphs or of sequences."""
    is_custom = node.domain not in STANDARD_DOMAINS
    return is_custom or any(True for _ in subgraphs(node)) or has_sequence(node)


def has_sequence(node: Node) -> bool:
    """Whether a node reads or gives anything but tensors."""
    types = [value.type for value in (*node.inputs, *node.outputs) if value is not None]
    return any(one is not None and not isinstance(one, ir().TensorType) for one in types)


def formal_types(node: Node, opset: int) -> tuple[list[str], list[str], dict[str, set[str]]]:
    """Type variable of each input and each output of a node, and what each variable allows.

    A type that is fixed, such as ``tensor(float)`` of Resize's scales, stands for itself.
    """
    defs = require("onnx.defs", purpose="look up an operator")
    schema = defs.get_schema(node.op_type, opset, "")
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    inputs = _each(schema.inputs, len(node.inputs))
    return inputs, _each(schema.outputs, len(node.outputs)), allowed


def _each(formals: Any, count: int) -> list[str]:
    """The type variable of each actual parameter; the last formal one may be variadic."""
    last = len(formals) - 1
    return [formals[min(i, last)].type_str for i in range(count)]


def subgraphs(node: Node) -> Iterator[Any]:
    """The graphs that a control-flow node holds (If, Loop, Scan), and those inside them."""
    kinds = ir().AttributeType
    for attribute in node.attributes.values():
        if attribute.type in (kinds.GRAPH, kinds.GRAPHS):
            for graph in attribute.value if attribute.type == kinds.GRAPHS else [attribute.value]:
                yield graph
                yield from graph.subgraphs()


def captured(node: Node) -> list[Value]:
    """Values of a node's graph that its subgraphs read."""
    inner = list(subgraphs(node))
    read = [v for graph in inner for one in graph for v in one.inputs if v is not None]
    read += [value for graph in inner for value in graph.outputs]
    return list(dict.fromkeys(value for value in read if value.graph is node.graph))


def redirect_captures(node: Node, old: Value, new: Value) -> None:
    """Let a node's subgraphs read another value."""
    for graph in subgraphs(node):
        for inner in graph:
            for index, value in enumerate(inner.inputs):
                if value is old:
                    inner.replace_input_with(index, new)
        for index, value in enumerate(graph.outputs):
            if value is old:
                graph.outputs[index] = new


def prepare(model: Model) -> TypedGraph:
    """Copy a model and bring it to the form that rules and rewriting expect."""
    check(model)  # no other has a clone
    copy = model.clone()
    if copy.functions:
        run_passes(copy, "Inline")
    drop_weights_from_inputs(copy)
    run_passes(copy, "LiftConstantsToInitializers", lift_all_constants=True, size_limit=0)
    _name_nodes(copy.graph)
    with _valid_onnx():
        typed = inferred(copy, check_type=True, strict_mode=True)
    _refuse_unknown(typed.graph)
    return TypedGraph(typed)


def check(model: Model, *, types: bool = False) -> None:
    """Refuse a graph that is not valid ONNX; with ``types`` strictly infers those of all values."""
    with _valid_onnx():
        checker = require("onnx.checker", purpose="check a graph")
        checker.check_model(ir().to_proto(model), full_check=types)


@contextlib.contextmanager
def _valid_onnx() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # checker and inference raise several classes
        raise ModelError(
            "the graph is not valid ONNX",
            facts={"says": " ".join(str(error).split())[:300]},
            fix="export it again, or check it with onnx.checker.check_model(..., full_check=True)",
        ) from error


def _name_nodes(graph: Any) -> None:
    """Give every node a name of its own: the rules, the report and TensorRT go by it."""
    taken = {node.name for node in graph}
    seen: set[str] = set()
    for index, node in enumerate(graph):
        if not node.name or node.name in seen:
            node.name = fresh(node.name or f"{node.op_type}_{index}", taken)
        seen.add(node.name)


def fresh(name: str, taken: set[str]) -> str:
    """``name``, or the first of name_1, name_2 ... that is not taken; it is taken then."""
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def _refuse_unknown(graph: Any) -> None:
    """An error that names the first value that has no type."""
    for node in graph:
        unknown = [value.name for value in node.outputs if value.name and value.type is None]
        if unknown:
            raise ModelError(
                f"the type of {unknown[0]!r} cannot be inferred",
                facts={"made by": f"{node.name} ({node.domain or 'ai.onnx'}::{node.op_type})"},
                fix="replace the custom operator, or add a value_info for its outputs",
            )


def card_of(model: Model) -> ModelCard | None:
    """The card that a model carries, or None."""
    return ModelCard.from_metadata(model.metadata_props)


def precision_of(model: Model) -> FilePrecision:
    """int8 where there are codes of activations, f16 where weights are half floats."""
    if holds(model, "QuantizeLinear"):
        return "int8"
    weights = model.graph.initializers.values()
    return "f16" if any(weight.dtype == FLOAT16 for weight in weights) else "f32"
