"""Queries' classes and masks to one map of class scores, inside the graph.

What is appended is what `segedge.reference.masks` says, of operators that every backend takes:
Softmax, Slice, Sigmoid, MatMul, Reshape, Add and Log; a Resize where the masks are enlarged. It
stands at the masks' own resolution: the tail enlarges C sums instead of Q masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.convert.options import PassReport
from segedge.convert.passes.graph import Model, Value, infer_shapes, ir, opset_of, shape_of
from segedge.errors import ExportError
from segedge.reference.masks import SCORE_FLOOR

_RESIZE_SINCE = 13
"""Opset from which Slice, Softmax and Resize are written as here."""


def compose_masks(model: Model, *, scale: int) -> PassReport:
    """Make the two outputs of a graph, class logits and mask logits, one: logits a class."""
    if opset_of(model) < _RESIZE_SINCE:
        raise ExportError(
            "masks are composed in graphs of opset 13 and later",
            facts={"found": f"opset {opset_of(model)}"},
            fix="export the file again with a newer opset",
        )
    classes, masks = model.graph.outputs
    count = _known(classes, axis=2)
    queries, height, width = (_known(masks, axis=axis) for axis in (1, 2, 3))
    add = _Adder(model)
    shares = add("Slice", add("Softmax", classes, axis=-1), *add.numbers([0], [-1], [2]))
    if scale > 1:
        factors = add.constant(np.array([1, 1, scale, scale], np.float32))
        masks = add("Resize", masks, None, factors, mode="linear")
    flat = add("Reshape", add("Sigmoid", masks), *add.numbers([0, queries, -1]))
    summed = add("MatMul", add("Transpose", shares, perm=[0, 2, 1]), flat)
    grid = [0, count - 1, scale * height, scale * width]
    planes = add("Reshape", summed, *add.numbers(grid))
    floor = add.constant(np.array(SCORE_FLOOR, np.float32))
    model.graph.outputs[:] = [add("Log", add("Add", planes, floor))]
    infer_shapes(model)
    detail = f"{queries} queries x {count - 1} classes at {scale * height}x{scale * width}"
    return PassReport("compose masks and classes", changed=True, detail=detail)


def _known(value: Value, *, axis: int) -> int:
    """A length that must be fixed."""
    length = (shape_of(value) or (None,) * 4)[axis]
    if length is None:
        raise ExportError(
            "the sizes of class and mask logits are not known",
            facts={"found": f"{value.name}: {value.shape}"},
            fix="export the file again with fixed sizes",
        )
    return length


class _Adder:
    """Appends nodes and constants under names that nobody else has."""

    def __init__(self, model: Model) -> None:
        self._graph = model.graph
        self._count = 0

    def __call__(self, op_type: str, *inputs: Value | None, **attributes: Any) -> Value:
        """A node's one output."""
        lib = ir()
        node = lib.node(op_type, inputs=list(inputs), attributes=attributes)
        node.name = self._name(op_type)
        node.outputs[0].name = f"{node.name}_out"
        # What Softmax and Sigmoid give is what they take; the rest is inferred.
        node.outputs[0].type = lib.TensorType(lib.DataType.FLOAT)
        self._graph.append(node)
        return node.outputs[0]

    def numbers(self, *lists: list[int]) -> list[Value]:
        """Constants of integers."""
        return [self.constant(np.array(numbers, np.int64)) for numbers in lists]

    def constant(self, array: NDArray[Any]) -> Value:
        """An initializer."""
        lib = ir()
        name = self._name("constant")
        tensor = lib.tensor(array, name=name)
        value = lib.Value(
            name=name, const_value=tensor, shape=lib.Shape(array.shape), type=tensor_type(array)
        )
        self._graph.register_initializer(value)
        return value

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"masks_{kind.lower()}_{self._count}"


def tensor_type(array: NDArray[Any]) -> Any:
    """onnx_ir's type of an array."""
    lib = ir()
    return lib.TensorType(lib.DataType.from_numpy(array.dtype))
