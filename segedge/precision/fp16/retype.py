"""Writing a graph anew with some nodes in fp16 and the others in fp32.

The types of all nodes are decided before; here they are only carried out. Casts between float32
and float16 that the graph already has are dissolved first, so what comes out has exactly the casts
that the decisions need: one a value and type, none behind another, each with a name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segedge.errors import ModelError
from segedge.machine.optional import require
from segedge.precision.graph import (
    FLOAT,
    FLOAT16,
    FLOATS,
    STANDARD_DOMAINS,
    TypedGraph,
    captured,
    copied,
    fresh,
    infer,
    onnx,
    refill,
    subgraphs,
)

FP16_MAX = 65504.0
"""Largest finite float16."""
_SUFFIX = {FLOAT: "fp32", FLOAT16: "fp16"}
_PINNED = {("Resize", 1): "roi"}
"""Inputs that stay float32 whatever the node computes in, beyond those for which ONNX says so
(Resize's scales): positions need more than 11 bits."""


def retype(graph: TypedGraph, *, wide: Collection[str], keep_io: bool) -> Any:
    """A new model with the nodes named in ``wide`` in float32 and all others in float16.

    ``keep_io`` keeps the types of the graph's inputs and outputs; else its float ones get float16.
    """
    writer = _Writer(graph, frozenset(wide), keep_io)
    return writer.write()


def is_frozen(node: Any) -> bool:
    """Whether a node keeps all its types: it holds subgraphs, or its operator is not ONNX's."""
    return node.domain not in STANDARD_DOMAINS or any(True for _ in subgraphs(node))


def formal_types(node: Any, opset: int) -> tuple[list[str], list[str], dict[str, set[str]]]:
    """Type variable of each input and each output of a node, and what each variable allows.

    A type that is fixed, such as ``tensor(float)`` of Resize's scales, stands for itself.
    """
    schema = onnx().defs.get_schema(node.op_type, opset, "")
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    inputs = _each(schema.inputs, len(node.input))
    return inputs, _each(schema.outputs, len(node.output)), allowed


def _each(formals: Any, count: int) -> list[str]:
    """The type variable of each actual parameter; the last formal one may be variadic."""
    last = len(formals) - 1
    return [formals[min(i, last)].type_str for i in range(count)]


def narrow(array: Any) -> Any:
    """An array in float16, finite values beyond its range clamped to it."""
    finite = np.isfinite(array)
    return np.where(finite, np.clip(array, -FP16_MAX, FP16_MAX), array).astype(np.float16)


def _plain(name: str) -> str:
    """A value's name without the suffix of an earlier conversion."""
    return name.removesuffix("_fp16").removesuffix("_fp32")


@dataclass
class _Writer:
    """One pass over the nodes in order, making each value in the types that its readers want."""

    graph: TypedGraph
    wide: frozenset[str]
    keep_io: bool
    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    """Output of a dissolved Cast to the value behind it."""
    names: dict[tuple[str, int], str] = field(default_factory=dict)
    """(value, type) to the tensor's name in the new graph."""
    made: dict[str, int] = field(default_factory=dict)
    """Value to the type that its producer gives it."""
    present: set[tuple[str, int]] = field(default_factory=set)
    """(value, type) pairs that exist in the new graph by now."""

    def write(self) -> Any:
        graph = self.graph.model.graph
        self.taken = set(self.graph.types)
        kept = [node for node in graph.node if not self.graph.is_float_cast(node)]
        self.taken_nodes = {node.name for node in kept}
        self._reserve_names()
        for value in graph.input:
            self._define(value.name, self._io_type(value.name))
        for node in kept:
            self._node(node)
        for value in graph.output:
            self._output(value.name)
        return self._assemble()

    def _io_type(self, name: str) -> int:
        own = self.graph.types[name]
        return FLOAT16 if own in FLOATS and not self.keep_io else own

    def _reserve_names(self) -> None:
        """Inputs and outputs keep their names, and so do the casts that are dissolved."""
        graph = self.graph.model.graph
        for node in graph.node:
            if self.graph.is_float_cast(node):
                source = node.input[0]
                self.roots[node.output[0]] = self.roots.get(source, source)
        for value in (*graph.input, *graph.output):
            if self.graph.is_float(value.name):
                key = (self._root(value.name), self._io_type(value.name))
                self.names.setdefault(key, value.name)
        ends = {value.name for value in (*graph.input, *graph.output)}
        for name in {*self.roots, *self.roots.values()} - ends:
            self.names.setdefault((self._root(name), self.graph.types[name]), name)
        self.reserved = set(self.names.values())

    def _root(self, name: str) -> str:
        return self.roots.get(name, name)

    def _name(self, root: str, dtype: int) -> str:
        """The tensor's name: the value's own where the type is its own, else with a suffix."""
        key = (root, dtype)
        if key not in self.names:
            own = dtype == self.graph.types[root] and root not in self.reserved
            suffixed = f"{_plain(root)}_{_SUFFIX[dtype]}"
            self.names[key] = root if own else fresh(suffixed, self.taken)
        return self.names[key]

    def _define(self, name: str, dtype: int) -> str:
        """A tensor that a graph input or a node gives; its name in the new graph."""
        self.made[name] = dtype
        if dtype not in FLOATS:
            return name
        self.present.add((name, dtype))
        return self._name(name, dtype)

    def _get(self, name: str, dtype: int) -> str:
        """The name of a value in a type, made by a Cast or as an initializer where it is new."""
        root = self._root(name)
        key = (root, dtype)
        new = self._name(root, dtype)
        if key not in self.present:
            self.present.add(key)
            if root in self.graph.constants:
                self._weight(root, dtype, new)
            else:
                self._cast(self._name(root, self.made[root]), new, dtype)
        return new

    def _weight(self, root: str, dtype: int, new: str) -> None:
        array = self.graph.constants[root]
        if dtype != self.graph.types[root]:
            array = narrow(array) if dtype == FLOAT16 else array.astype(np.float32)
        numpy_helper = require("onnx.numpy_helper", purpose="convert a network to fp16")
        self.weights[new] = numpy_helper.from_array(array, new)

    def _cast(self, source: str, result: str, dtype: int) -> None:
        name = fresh(f"{_plain(source)}_to_{_SUFFIX[dtype]}", self.taken_nodes)
        cast = onnx().helper.make_node("Cast", [source], [result], name=name, to=dtype)
        self.nodes.append(cast)

    def _node(self, node: Any) -> None:
        copy = onnx().NodeProto()
        copy.CopyFrom(node)
        wanted = self._input_types(node)
        for index, dtype in enumerate(wanted):
            if dtype is not None:
                copy.input[index] = self._get(node.input[index], dtype)
        self._serve_captures(node)
        self.nodes.append(copy)  # after the casts that it needs
        for index, name in enumerate(node.output):
            if name:
                copy.output[index] = self._define(name, self._output_type(node, index))
        if node.op_type == "Cast" and self.graph.is_float(node.output[0]):
            for attribute in copy.attribute:
                if attribute.name == "to":
                    attribute.i = self.made[node.output[0]]

    def _computes_in(self, node: Any) -> int:
        """The decision; nodes without float outputs (ArgMax, Shape) take what they are given."""
        if node.name in self.wide:
            return FLOAT
        data = self.graph.data_inputs(node)
        if data and not self.graph.float_outputs(node):
            return self.made.get(self._root(data[0]), FLOAT)
        return FLOAT16

    def _input_types(self, node: Any) -> list[int | None]:
        """The type that each input must have; None where it is no float."""
        types = self.graph.types
        own = [types[n] if self.graph.is_float(n) else None for n in node.input]
        if is_frozen(node):
            return own
        formals, _, allowed = formal_types(node, self.graph.opset)
        computes = self._computes_in(node)
        for index, name in enumerate(node.input):
            pinned = formals[index] not in allowed or (node.op_type, index) in _PINNED
            if self.graph.is_float(name) and not pinned:
                own[index] = computes
        return own

    def _output_type(self, node: Any, index: int) -> int:
        own = self.graph.types[node.output[index]]
        return own if own not in FLOATS or is_frozen(node) else self._computes_in(node)

    def _serve_captures(self, node: Any) -> None:
        """Subgraphs go on reading values by name, so these must exist in their own type."""
        for name in sorted(captured(node)):
            if self.graph.is_float(name) and self._get(name, self.graph.types[name]) != name:
                raise ModelError(
                    f"{node.op_type} reads the graph's input or output {name!r} from inside",
                    facts={"node": node.name, "wanted": "float16 inputs and outputs"},
                    fix="keep float32 inputs and outputs (keep_io=True)",
                )

    def _output(self, name: str) -> None:
        if not self.graph.is_float(name):
            return
        found = self._get(name, self._io_type(name))
        if found != name:  # two outputs of one value
            identity = onnx().helper.make_node("Identity", [found], [name], name=f"{name}_identity")
            self.nodes.append(identity)

    def _assemble(self) -> Any:
        model = copied(self.graph.model)
        graph = model.graph
        others = [w for w in graph.initializer if w.data_type not in FLOATS]
        refill(graph.node, self.nodes)
        refill(graph.initializer, [*others, *self.weights.values()])
        refill(graph.value_info, self._frozen_infos())
        for value in (*graph.input, *graph.output):
            if self.graph.is_float(value.name):
                value.type.tensor_type.elem_type = self._io_type(value.name)
        return infer(model)

    def _frozen_infos(self) -> list[Any]:
        """Types of what inference cannot know: the outputs of custom operators."""
        custom = {
            name
            for node in self.graph.nodes
            if node.domain not in STANDARD_DOMAINS
            for name in node.output
        }
        return [v for v in self.graph.model.graph.value_info if v.name in custom]
