"""Writing a graph anew with some nodes in fp16 and the others in fp32.

The types of all nodes are decided before; here they are only carried out. Casts between float32
and float16 that the graph already has are dissolved first, so what comes out has exactly the casts
that the decisions need: one a value and type, none behind another, each with a name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from segedge.graph.kit import (
    FLOAT,
    FLOAT16,
    FLOATS,
    Model,
    Node,
    Value,
    drop_unused_weights,
    initializer,
    ir,
    new_node,
    opset_of,
    set_type,
    values_of,
)
from segedge.graph.typed import (
    TypedGraph,
    captured,
    check,
    data_inputs,
    float_outputs,
    formal_types,
    fresh,
    is_float,
    is_float_cast,
    is_frozen,
    redirect_captures,
)

FP16_MAX = 65504.0
"""Largest finite float16."""
_SUFFIX = {FLOAT: "fp32", FLOAT16: "fp16"}
_PINNED = {("Resize", 1): "roi"}
"""Inputs that stay float32 whatever the node computes in, beyond those for which ONNX says so
(Resize's scales): positions need more than 11 bits."""


def retype(graph: TypedGraph, *, wide: Collection[str], keep_io: bool) -> Model:
    """A new model with the nodes named in ``wide`` in float32 and all others in float16.

    ``keep_io`` keeps the types of the graph's inputs and outputs; else its float ones get float16.
    """
    return _Writer(graph.model.clone(), frozenset(wide), keep_io).write()


def narrow(array: Any) -> Any:
    """An array in float16, finite values beyond its range clamped to it."""
    finite = np.isfinite(array)
    return np.where(finite, np.clip(array, -FP16_MAX, FP16_MAX), array).astype(np.float16)


def _plain(name: str) -> str:
    """A value's name without the suffix of an earlier conversion."""
    return name.removesuffix("_fp16").removesuffix("_fp32")


class _Writer:
    """One pass over the nodes in order, giving each the types that it wants to read."""

    def __init__(self, model: Model, wide: frozenset[str], keep_io: bool) -> None:
        self.model, self.wide, self.keep_io = model, wide, keep_io
        self.opset = opset_of(model)
        values = list(values_of(model))
        self.own = {value: value.dtype for value in values}
        """The types before; a value that has been passed has the type that it is given."""
        self.own_names = {value: value.name for value in values}
        self.taken = set(self.own_names.values())
        self.casts = [node for node in model.graph if is_float_cast(node)]
        """They are dissolved."""
        self.taken_nodes = {node.name for node in model.graph} - {n.name for n in self.casts}
        self.roots: dict[Value, Value] = {}
        """Output of a dissolved Cast to the value behind it."""
        self.names: dict[tuple[Value, int], str] = {}
        """(value, type) to the tensor's name in the new graph."""
        self.present: dict[tuple[Value, int], Value] = {}
        """(value, type) to the tensor, where it exists by now."""

    def write(self) -> Model:
        graph = self.model.graph
        self._reserve_names()
        outputs = [(value, value.name, value.shape) for value in graph.outputs]
        for value in graph.inputs:
            self._define(value, self._io_type(value))
        for node in [node for node in graph if not is_float_cast(node)]:
            self._node(node)
        for index, (value, name, shape) in enumerate(outputs):
            if is_float(value):
                graph.outputs[index] = self._output(value, name)
                graph.outputs[index].shape = shape
        graph.remove(self.casts, safe=True)
        drop_unused_weights(self.model)
        check(self.model, types=True)
        return self.model

    def _io_type(self, value: Value) -> int:
        own: int = self.own[value]
        return FLOAT16 if own in FLOATS and not self.keep_io else own

    def _reserve_names(self) -> None:
        """Inputs and outputs keep their names, and so do the casts that are dissolved."""
        for node in self.casts:
            self.roots[node.outputs[0]] = self._root(node.inputs[0])
        ends = [v for v in (*self.model.graph.inputs, *self.model.graph.outputs) if is_float(v)]
        for value in ends:
            self.names.setdefault((self._root(value), self._io_type(value)), value.name)
        for value in {*self.roots, *self.roots.values()} - {*ends}:
            self.names.setdefault((self._root(value), self.own[value]), value.name)
        self.reserved = set(self.names.values())

    def _root(self, value: Value) -> Value:
        return self.roots.get(value, value)

    def _name(self, root: Value, dtype: int) -> str:
        """The tensor's name: the value's own where the type is its own, else with a suffix."""
        key = (root, dtype)
        if key not in self.names:
            name = self.own_names[root]
            own = dtype == self.own[root] and name not in self.reserved
            suffixed = f"{_plain(name)}_{_SUFFIX[dtype]}"
            self.names[key] = name if own else fresh(suffixed, self.taken)
        return self.names[key]

    def _define(self, value: Value, dtype: int) -> None:
        """A tensor that a graph input or a node gives."""
        if dtype in FLOATS:
            value.name = self._name(value, dtype)
            set_type(value, dtype)
            self.present[value, dtype] = value

    def _get(self, value: Value, dtype: int, reader: Node | None) -> Value:
        """A value in a type, made by a Cast before its reader or as a weight where it is new."""
        key = (root, dtype) = (self._root(value), dtype)
        if key not in self.present:
            name = self._name(*key)
            if root.is_initializer():
                self.present[key] = self._weight(root, dtype, name)
            else:
                self.present[key] = self._cast(root, dtype, name, reader)
        return self.present[key]

    def _weight(self, root: Value, dtype: int, name: str) -> Value:
        if dtype == self.own[root] and name == root.name:
            return root
        array = root.const_value.numpy()
        if dtype != self.own[root]:
            array = narrow(array) if dtype == FLOAT16 else np.asarray(array, np.float32)
        return initializer(self.model, name, array)

    def _cast(self, root: Value, dtype: int, name: str, reader: Node | None) -> Value:
        own = fresh(f"{_plain(root.name)}_to_{_SUFFIX[dtype]}", self.taken_nodes)
        cast = new_node("Cast", [root], name, dtype=dtype, shape=root.shape, name=own, to=dtype)
        self._insert(cast, reader)
        return cast.outputs[0]

    def _insert(self, node: Node, reader: Node | None) -> None:
        """Put a node before its reader, or at the end of the graph."""
        graph = self.model.graph
        graph.append(node) if reader is None else graph.insert_before(reader, node)

    def _node(self, node: Node) -> None:
        computes = self._computes_in(node)
        for index, dtype in enumerate(self._input_types(node, computes)):
            if dtype is not None:
                node.replace_input_with(index, self._get(node.inputs[index], dtype, node))
        for value in sorted(captured(node), key=lambda value: value.name):
            if is_float(value):
                redirect_captures(node, value, self._get(value, self.own[value], node))
        for value in node.outputs:
            if is_float(value):
                self._define(value, self.own[value] if is_frozen(node) else computes)
        if node.op_type == "Cast" and is_float(node.outputs[0]):
            node.attributes["to"] = ir().AttrInt64("to", int(node.outputs[0].dtype))

    def _computes_in(self, node: Node) -> int:
        """The decision; nodes without float outputs (ArgMax, Shape) take what they are given."""
        if node.name in self.wide:
            return FLOAT
        data = [self._root(value) for value in data_inputs(node)]
        if data and not float_outputs(node):
            return FLOAT if data[0].is_initializer() else data[0].dtype
        return FLOAT16

    def _input_types(self, node: Node, computes: int) -> list[int | None]:
        """The type that each input must have; None where it is no float."""
        own = [self.own[value] if is_float(value) else None for value in node.inputs]
        if is_frozen(node):
            return own
        formals, _, allowed = formal_types(node, self.opset)
        pinned = [f not in allowed or (node.op_type, i) in _PINNED for i, f in enumerate(formals)]
        return [t if t is None or fixed else computes for t, fixed in zip(own, pinned, strict=True)]

    def _output(self, value: Value, name: str) -> Value:
        """An output in its type and by its name."""
        dtype = self._io_type(value)
        found = self._get(value, dtype, None)
        if found.name == name:
            return found
        identity = new_node(  # two outputs of one value
            "Identity", [found], name, dtype=dtype, shape=found.shape, name=f"{name}_identity"
        )
        self._insert(identity, None)
        return identity.outputs[0]
