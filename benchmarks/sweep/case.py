"""One operator with one combination of its attributes, as a network of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Tensor = Any
"""``torch.Tensor``"""
Torch = Callable[[Tensor], Tensor]
"""What torch computes for the image."""
IMAGE, RESULT = "image", "result"
SHAPE = (1, 4, 12, 17)
"""One side even and one odd: windows of a stride of two fit differently."""


@dataclass(frozen=True)
class Case:
    """A network with one float image and one result."""

    operator: str
    words: str
    """Its attributes, as a table has them."""
    nodes: tuple[Any, ...]
    constants: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    shape: tuple[int, ...] = SHAPE
    opset: int = 20
    torch: Torch | None = None
    positive: bool = False
    """Whether the operator is for numbers above zero."""

    @property
    def name(self) -> str:
        """Operator and attributes."""
        return f"{self.operator} {self.words}".strip()

    def model(self) -> bytes:
        """The ONNX file."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            list(self.nodes),
            "case",
            [value(IMAGE, onnx.TensorProto.FLOAT, self.shape)],
            [onnx.ValueInfoProto(name=RESULT)],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        inferred = onnx.shape_inference.infer_shapes(made)
        if not inferred.graph.output[0].type.HasField("tensor_type"):
            inferred.graph.output[0].CopyFrom(value(RESULT, onnx.TensorProto.FLOAT, None))
        return bytes(inferred.SerializeToString())

    def image(self) -> NDArray[np.float32]:
        """What it is shown: the same each time."""
        values = np.random.default_rng(7).standard_normal(self.shape).astype(np.float32)
        return np.abs(values) + np.float32(0.1) if self.positive else values


def weights(*shape: int, seed: int = 1) -> NDArray[np.float32]:
    """Random ones; their sums over a window stay near one."""
    fan = max(1, int(np.prod(shape[1:])))
    values = np.random.default_rng(seed).standard_normal(shape) / fan**0.5
    return values.astype(np.float32)


def one(
    operator: str, attributes: Mapping[str, Any] | None = None, *inputs: NDArray[Any] | None,
    words: str | None = None, before: Sequence[Any] = (), first: str = IMAGE, **rest: Any,
) -> Case:  # fmt: skip
    """A case of one node, whose inputs after the first are constants; None leaves one out."""
    attributes = {k: v for k, v in (attributes or {}).items() if v is not None}
    names, constants = [first], {}
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    for index, array in enumerate(inputs):
        names.append("" if array is None else f"c{index}")
        if array is not None:
            constants[f"c{index}"] = array
    node = helper.make_node(operator, names, [RESULT], name="case", **attributes)
    said = ", ".join(f"{name}={_short(value)}" for name, value in attributes.items())
    return Case(operator, said if words is None else words, (*before, node), constants, **rest)


def _short(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
