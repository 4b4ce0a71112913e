"""A graph made ready for retyping: one level, constants as initializers, every type known.

Graphs here are protobufs (``onnx.ModelProto``), typed Any: onnx ships no usable stubs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.errors import ModelError
from segedge.machine.optional import require

FLOAT, FLOAT16 = 1, 10
"""Values of ``onnx.TensorProto.DataType``."""
FLOATS = (FLOAT, FLOAT16)
STANDARD_DOMAINS = ("", "ai.onnx")
_PURPOSE = "convert a network to fp16"


def onnx() -> Any:
    """The onnx library."""
    return require("onnx", purpose=_PURPOSE)


def copied(model: Any) -> Any:
    """A model of its own with the same contents."""
    copy = onnx().ModelProto()
    copy.CopyFrom(model)
    return copy


def refill(values: Any, new: Iterable[Any]) -> None:
    """Put other messages in a repeated field; they may be of that field."""
    kept = [type(one).FromString(one.SerializeToString()) for one in new]
    del values[:]
    values.extend(kept)


def attribute(node: Any, name: str, default: Any) -> Any:
    """An attribute's value, or the default where the node has none."""
    found = next((one for one in node.attribute if one.name == name), None)
    return default if found is None else onnx().helper.get_attribute_value(found)


def element_types(graph: Any) -> dict[str, int]:
    """Element type of each value that the graph describes; 0 for sequences and optionals."""
    values = (*graph.input, *graph.value_info, *graph.output)
    described = [value for value in values if value.type.WhichOneof("value")]
    return {value.name: int(value.type.tensor_type.elem_type) for value in described}


def card_of(model: Any) -> ModelCard | None:
    """The card that a model carries, or None."""
    return ModelCard.from_metadata({entry.key: entry.value for entry in model.metadata_props})


@dataclass(frozen=True)
class TypedGraph:
    """A prepared model and the element type of each of its values."""

    model: Any
    """``onnx.ModelProto``; nobody changes it."""
    types: Mapping[str, int]
    """Element type of each value of the main graph."""

    @property
    def nodes(self) -> Any:
        """The main graph's nodes in topological order, each with a name of its own."""
        return self.model.graph.node

    @cached_property
    def opset(self) -> int:
        """Version of the default operator set."""
        opsets = self.model.opset_import
        return max((int(o.version) for o in opsets if o.domain in STANDARD_DOMAINS), default=0)

    @cached_property
    def constants(self) -> dict[str, NDArray[Any]]:
        """Name to array of all initializers of a float type."""
        numpy_helper = require("onnx.numpy_helper", purpose=_PURPOSE)
        weights = self.model.graph.initializer
        return {w.name: numpy_helper.to_array(w) for w in weights if w.data_type in FLOATS}

    @cached_property
    def producers(self) -> dict[str, Any]:
        """Value to the node that makes it."""
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def consumers(self) -> dict[str, list[Any]]:
        """Value to the nodes that read it, those that capture it in a subgraph included."""
        readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in dict.fromkeys([*node.input, *captured(node)]):
                readers.setdefault(name, []).append(node)
        return readers

    def is_float(self, name: str) -> bool:
        """Whether a value is float32 or float16."""
        return self.types.get(name) in FLOATS

    def data_inputs(self, node: Any) -> list[str]:
        """A node's float inputs that are no constants."""
        return [n for n in node.input if self.is_float(n) and n not in self.constants]

    def float_outputs(self, node: Any) -> list[str]:
        """A node's outputs of a float type."""
        return [name for name in node.output if self.is_float(name)]

    def maker(self, name: str) -> str:
        """Who gives a value, for messages."""
        node = self.producers.get(name)
        return f"{node.name} ({node.op_type})" if node is not None else f"input {name}"

    def is_float_cast(self, node: Any) -> bool:
        """Whether a node only changes between float32 and float16."""
        ends = (*node.input, *node.output)
        return node.op_type == "Cast" and all(map(self.is_float, ends))


def prepare(model: Any) -> TypedGraph:
    """Copy a model and bring it to the form that the rules and the retyping expect."""
    copy = copied(model)
    if copy.functions:
        inliner = require("onnx.inliner", purpose=_PURPOSE)
        copy = inliner.inline_local_functions(copy)
    _drop_weights_from_inputs(copy)
    _lift_constants(copy.graph)
    _name_nodes(copy.graph)
    inferred = infer(copy)
    return TypedGraph(inferred, _types(inferred.graph))


def infer(model: Any) -> Any:
    """The model with the type and shape of every value, strictly checked."""
    try:
        onnx().checker.check_model(model)
        return onnx().shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:  # checker and inference raise several classes
        raise ModelError(
            "the graph is not valid ONNX",
            facts={"says": " ".join(str(error).split())[:300]},
            fix="export it again, or check it with onnx.checker.check_model(..., full_check=True)",
        ) from error


def subgraphs(node: Any) -> Iterator[Any]:
    """The graphs that a control-flow node holds (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captured(node: Any) -> set[str]:
    """Names that a node's subgraphs read from outside themselves."""
    names: set[str] = set()
    for graph in subgraphs(node):
        made = {v.name for v in (*graph.input, *graph.initializer)}
        read = {o.name for o in graph.output}
        for inner in graph.node:
            read |= {name for name in inner.input if name} | captured(inner)
            made |= set(inner.output)
        names |= read - made
    return names


def _drop_weights_from_inputs(model: Any) -> None:
    """Old exporters list weights among the inputs, as defaults that a caller may replace."""
    weights = {w.name for w in model.graph.initializer}
    listed = [value for value in model.graph.input if value.name in weights]
    for value in listed:
        model.graph.input.remove(value)
    if listed:
        model.ir_version = max(model.ir_version, 4)  # before it, every weight had to be listed


def _lift_constants(graph: Any) -> None:
    """Turn Constant nodes of a float type into initializers, which retype without a Cast."""
    numpy_helper = require("onnx.numpy_helper", purpose=_PURPOSE)
    for node in [n for n in graph.node if n.op_type == "Constant"]:
        attribute = node.attribute[0]
        if attribute.name == "value" and attribute.t.data_type in FLOATS:
            tensor = attribute.t
        elif attribute.name == "value_float":
            tensor = numpy_helper.from_array(np.array(attribute.f, np.float32))
        elif attribute.name == "value_floats":
            tensor = numpy_helper.from_array(np.array(attribute.floats, np.float32))
        else:
            continue
        lifted = graph.initializer.add()
        lifted.CopyFrom(tensor)
        lifted.name = node.output[0]
        graph.node.remove(node)


def _name_nodes(graph: Any) -> None:
    """Give every node a name of its own: the rules, the report and TensorRT go by it."""
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
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


def _types(graph: Any) -> dict[str, int]:
    """Element type of every tensor, or the error that names the first one that has none."""
    types = {w.name: int(w.data_type) for w in graph.initializer} | element_types(graph)
    for node in graph.node:
        unknown = [name for name in node.output if name and name not in types]
        if unknown:
            raise ModelError(
                f"the type of {unknown[0]!r} cannot be inferred",
                facts={"made by": f"{node.name} ({node.domain or 'ai.onnx'}::{node.op_type})"},
                fix="replace the custom operator, or add a value_info for its outputs",
            )
    return types


def graph_precision(path: Path) -> str:
    """``int8`` with Q/DQ nodes, ``float16`` with weights in it, else ``float32``."""
    onnx = require("onnx", purpose="read the graph")
    graph = onnx.load(str(path), load_external_data=False).graph
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        return "int8"
    half = onnx.TensorProto.FLOAT16
    return "float16" if any(one.data_type == half for one in graph.initializer) else "float32"
