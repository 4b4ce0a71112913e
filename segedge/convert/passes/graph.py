"""Small things that every pass over an ONNX graph needs: constants, shapes, attributes.

Graphs are ``onnx_ir.Model`` throughout; onnx_ir has no usable stubs here, hence the Any.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import ExportError
from segedge.machine.onnx_session import Session
from segedge.machine.optional import require

Model = Any
"""``onnx_ir.Model``"""
Node = Any
"""``onnx_ir.Node``"""
Value = Any
"""``onnx_ir.Value``"""


def ir() -> Any:
    """The onnx_ir library."""
    return require("onnx_ir", purpose="export a network")


def run_passes(model: Model, *names: str) -> None:
    """Run passes of onnx_ir's own: ``ShapeInference`` is its `ShapeInferencePass`."""
    passes = require("onnx_ir.passes.common", purpose="export a network")
    for name in names:
        getattr(passes, f"{name}Pass")()(model)


def constant(value: Value | None) -> NDArray[Any] | None:
    """The array of an initializer or Constant node, or None where the value is computed."""
    tensor = None if value is None else ir().convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def shape_of(value: Value) -> tuple[int | None, ...] | None:
    """The shape with None for symbolic axes; None where even the rank is unknown."""
    if value.shape is None:
        return None
    return tuple(axis if isinstance(axis, int) else None for axis in value.shape)


def axis_names(value: Value) -> tuple[int | str, ...]:
    """The shape for people: numbers, and the names of symbolic axes."""
    axes = value.shape or ()
    return tuple(axis if isinstance(axis, int) else str(axis.value or "?") for axis in axes)


def attribute(node: Node, name: str, default: Any) -> Any:
    """An attribute's value, bytes decoded, or the default where the node has none."""
    found = node.attributes.get(name)
    value = default if found is None else found.value
    return value.decode() if isinstance(value, bytes) else value


def initializer(model: Model, name: str, array: NDArray[Any], dtype: Any = np.float32) -> Value:
    """A new constant of the graph."""
    lib = ir()
    tensor = lib.tensor(np.ascontiguousarray(array).astype(dtype), name=name)
    value = lib.Value(name=name, const_value=tensor, shape=tensor.shape)
    value.type = lib.TensorType(tensor.dtype)
    model.graph.register_initializer(value)
    return value


def replace_node(node: Node, nodes: Sequence[Node], names: Sequence[str]) -> None:
    """Put nodes, each with one output, in the place of another's first output.

    The last one's output is a new value with the old one's shape and type; ``names`` are appended
    to the old one's name, one for each node.
    """
    result = node.outputs[0]
    for each, name in zip(nodes, names, strict=True):
        each.outputs[0].name = f"{result.name}_{name}"
    last = nodes[-1].outputs[0]
    last.shape, last.type = result.shape, result.type
    node.append(nodes)
    result.replace_all_uses_with(last, replace_graph_outputs=True)


def image_input(model: Model) -> Value:
    """The one graph input that is no initializer (`onnx_file.prepare_input` checks that)."""
    return runtime_inputs(model)[0]


def runtime_inputs(model: Model) -> list[Value]:
    """Graph inputs that must be fed: old exporters list the weights among them, too."""
    weights = set(model.graph.initializers)
    return [value for value in model.graph.inputs if value.name not in weights]


def opset_of(model: Model) -> int:
    """Version of the default operator set."""
    return int(model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0)))


def holds(model: Model, operator: str) -> bool:
    """Whether the graph has an operator of this type."""
    return any(node.op_type == operator for node in model.graph)


def rounds_to_codes(model: Model) -> bool:
    """Whether the network quantizes inside."""
    return any(holds(model, f"{kind}QuantizeLinear") for kind in ("", "Dynamic")) or holds(
        model, "QLinearConv"
    )


def drop_dead(model: Model) -> None:
    """Remove nodes, initializers, functions and opsets that no output needs."""
    run_passes(model, "RemoveUnusedNodes", "RemoveUnusedFunctions", "RemoveUnusedOpsets")


def to_bytes(model: Model) -> bytes:
    """The model as the bytes of an ONNX file."""
    result: bytes = ir().to_proto(model).SerializeToString()
    return result


def measure_shapes(
    model: Model, values: Sequence[Value], input_shape: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Real shapes of inner values, by running the network once on zeros; it stays as it is."""
    outputs = model.graph.outputs
    own = list(outputs)
    outputs.extend([value for value in values if not any(value is o for o in own)])
    try:
        session = Session(to_bytes(model), error=ExportError)
    finally:
        outputs[:] = own
    zeros = np.zeros(tuple(input_shape), image_input(model).dtype.numpy())
    names = [value.name for value in values]
    arrays = session.run(zeros, names)
    return {name: array.shape for name, array in zip(names, arrays, strict=True)}


def new_constant(model: Model, name: str, array: NDArray[Any]) -> Value:
    """An initializer of the graph."""
    lib = ir()
    value = lib.Value(
        name=name,
        const_value=lib.tensor(array, name=name),
        shape=lib.Shape(array.shape),
        type=lib.TensorType(lib.DataType.from_numpy(array.dtype)),
    )
    model.graph.register_initializer(value)
    return value


@dataclass(frozen=True)
class Operator:
    """A node to be made: its further inputs are constants, which take the type of the first."""

    op: str
    """ONNX operator type."""
    constants: tuple[NDArray[Any], ...] = ()
    """Floats become what the first input is; all else stays what it is."""
    attributes: Mapping[str, Any] = field(default_factory=dict)


def append(model: Model, value: Value, operator: Operator) -> Value:
    """Put an operator behind a value, at the end of the graph; its result."""
    node = _node(model, value, operator)
    model.graph.append(node)
    return node.outputs[0]


def put_behind_input(model: Model, value: Value, operators: Sequence[Operator]) -> None:
    """Put operators between a graph's input and all that reads it."""
    uses, nodes, last = list(value.uses()), [], value
    for operator in operators:
        nodes.append(_node(model, last, operator))
        last = nodes[-1].outputs[0]
    if nodes:
        model.graph.insert_before(model.graph[0], nodes)
    for use in uses:
        use.node.replace_input_with(use.idx, last)


def _node(model: Model, value: Value, operator: Operator) -> Node:
    lib = ir()
    codes = operator.op == "DequantizeLinear"
    inputs = [value]
    for index, array in enumerate(operator.constants):
        is_float = array.dtype.kind == "f" and not codes
        tensor = array.astype(value.dtype.numpy()) if is_float else array
        inputs.append(new_constant(model, f"{value.name}_{operator.op}_{index}", tensor))
    node = lib.node(operator.op, inputs=inputs, attributes=dict(operator.attributes))
    node.outputs[0].name = f"{value.name}_{operator.op}"
    node.outputs[0].type = lib.TensorType(_result_type(value, operator))
    return node


def _result_type(value: Value, operator: Operator) -> Any:
    if operator.op == "Cast":
        return ir().DataType(operator.attributes["to"])
    if operator.op == "DequantizeLinear":
        return ir().DataType.from_numpy(operator.constants[0].dtype)
    return ir().DataType.BOOL if operator.op == "Equal" else value.dtype


def infer_shapes(model: Model) -> None:
    """Write the shapes of all inner values into the model, where they can be known."""
    run_passes(model, "ShapeInference")


def forget_shapes(model: Model) -> None:
    """Drop the shapes of inner values, which are stale once an input's shape has changed."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = None


@contextlib.contextmanager
def quiet(*names: str, below: int = logging.ERROR) -> Iterator[None]:
    """Keep libraries' loggers silent below a level for a while."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(below)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
