"""Operators that are decided now and put into a graph later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from segedge.graph.kit import Model, Node, Value, initializer, ir, new_node, put_behind


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
    nodes, last = list[Node](), value
    for operator in operators:
        nodes.append(_node(model, last, operator))
        last = nodes[-1].outputs[0]
    if nodes:
        put_behind(model, value, nodes)


def _node(model: Model, value: Value, operator: Operator) -> Node:
    codes = operator.op == "DequantizeLinear"
    inputs = [value]
    for index, array in enumerate(operator.constants):
        is_float = array.dtype.kind == "f" and not codes
        tensor = array.astype(value.dtype.numpy()) if is_float else array
        inputs.append(initializer(model, f"{value.name}_{operator.op}_{index}", tensor))
    dtype = _result_type(value, operator)
    name = f"{value.name}_{operator.op}"
    return new_node(operator.op, inputs, name, dtype=dtype, **operator.attributes)


def _result_type(value: Value, operator: Operator) -> Any:
    if operator.op == "Cast":
        return ir().DataType(operator.attributes["to"])
    if operator.op == "DequantizeLinear":
        return ir().DataType.from_numpy(operator.constants[0].dtype)
    return ir().DataType.BOOL if operator.op == "Equal" else value.dtype
