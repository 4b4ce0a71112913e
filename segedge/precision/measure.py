"""Running a graph on ONNX Runtime's CPU to see how large its values get, and what fp16 changes.

ONNX Runtime's CPU provider has no fp16 kernels for most operators on x86: it widens a float16 graph
to float32 and drops the casts in between, so 120000 passes through a float16 tensor unharmed [V].
An overflow that a GPU would have does not show there. `emulated` therefore rewrites a float16
graph in float32 with an explicit rounding (a Cast to float16 and one back) behind every node,
which ONNX Runtime honours: what comes out is what hardware gives that accumulates in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.machine.onnx_session import Session
from segedge.machine.optional import require
from segedge.precision.graph import (
    FLOAT,
    FLOAT16,
    FLOATS,
    card_of,
    copied,
    element_types,
    fresh,
    infer,
    onnx,
    refill,
)

Kind = Literal["images", "noise"]
_PURPOSE = "measure a network's values"
_NUMPY = {FLOAT: np.float32, FLOAT16: np.float16, 2: np.uint8, 11: np.float64}
_DEFAULT_SIZE = (256, 512)


@dataclass(frozen=True)
class Probes:
    """What one or more runs showed of the float values inside a network."""

    absmax: dict[str, float]
    """Largest magnitude of each value; inf or NaN where it had one."""
    nonfinite: tuple[str, ...]
    """Values that held an inf or a NaN, in the order of the graph."""
    outputs: tuple[tuple[NDArray[Any], ...], ...]
    """The network's own outputs, one tuple an image."""


def probe(
    model: Any, images: Sequence[NDArray[Any]], *, names: Sequence[str] | None = None
) -> Probes:
    """Run a network and reduce every float value inside it (or those named) to its extremes.

    The reductions are part of the graph, so memory stays that of plain inference.
    """
    names = float_values(model) if names is None else names
    session = Session(_with_probes(model, names))
    absmax = dict.fromkeys(names, 0.0)
    broken: set[str] = set()
    outputs = []
    for image in images:
        results = session.run(image)
        count = len(results) - 3 * len(names)
        outputs.append(tuple(results[:count]))
        extremes = np.array([float(r) for r in results[count:]]).reshape(-1, 3)
        for name, (high, low, total) in zip(names, extremes, strict=True):
            absmax[name] = float(np.maximum(absmax[name], max(abs(high), abs(low))))
            if not np.isfinite([high, low, total]).all():
                broken.add(name)
    return Probes(absmax, tuple(n for n in names if n in broken), tuple(outputs))


def input_tensors(
    model: Any, images: Sequence[NDArray[Any]] | None
) -> tuple[list[NDArray[Any]], Kind]:
    """The tensors to measure on: the given ones with a batch axis, or two of noise."""
    if images is not None and len(images):
        return [image[None] if image.ndim == 3 else image for image in images], "images"
    value = model.graph.input[0]
    shape = _shape(value, _usual_shape(model))
    dtype = _NUMPY.get(value.type.tensor_type.elem_type, np.float32)
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return [rng.standard_normal(shape).astype(dtype) for _ in range(2)], "noise"
    return [rng.integers(0, 256, shape).astype(dtype) for _ in range(2)], "noise"


def _usual_shape(model: Any) -> tuple[int, ...]:
    """One image of the size that the card prefers, or a small one where there is no card."""
    card = card_of(model)
    if card is None:
        return (1, 3, *_DEFAULT_SIZE)
    return card.input_shape()


def _shape(value: Any, usual: Sequence[int]) -> list[int]:
    """An input's shape, its dynamic axes as in the usual shape (1 where the rank is another)."""
    dims = value.type.tensor_type.shape.dim
    fill = usual if len(dims) == len(usual) else [1] * len(dims)
    return [dim.dim_value or other for dim, other in zip(dims, fill, strict=True)]


def float_values(model: Any) -> list[str]:
    """Float inputs and node outputs of the main graph, in order."""
    graph, types = model.graph, element_types(model.graph)
    names = [v.name for v in graph.input] + [name for n in graph.node for name in n.output]
    return [name for name in dict.fromkeys(names) if types.get(name) in FLOATS]


def _with_probes(model: Any, names: Sequence[str]) -> Any:
    """The network with max, min and sum of each value as further outputs."""
    helper = onnx().helper
    copy = copied(model)
    taken = {name for node in copy.graph.node for name in node.output}
    for name in names:
        wide = fresh(f"{name}_probed", taken)
        copy.graph.node.append(helper.make_node("Cast", [name], [wide], to=FLOAT))
        for reduction in ("ReduceMax", "ReduceMin", "ReduceSum"):
            result = fresh(f"{name}_{reduction}", taken)
            copy.graph.node.append(helper.make_node(reduction, [wide], [result], keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(result, FLOAT, []))
    return copy


def emulated(model: Any) -> Any:
    """A float16 graph rewritten in float32 that rounds where the float16 graph rounds.

    Value names stay, so that what is found in one graph can be named in the other.
    """
    copy = copied(model)
    graph, types = copy.graph, element_types(copy.graph)
    nodes = [cast for value in graph.input for cast in _rounded_input(value, graph, types)]
    for node in graph.node:
        nodes += _rounding(node, types)
    for value in graph.output:
        if types[value.name] == FLOAT16:
            value.type.tensor_type.elem_type = FLOAT
    for index, weight in enumerate(graph.initializer):
        if weight.data_type == FLOAT16:
            graph.initializer[index].CopyFrom(_widened(weight))
    refill(graph.node, nodes)
    del graph.value_info[:]
    return infer(copy)


def _rounded_input(value: Any, graph: Any, types: dict[str, int]) -> list[Any]:
    """Make a float16 input float32 and its readers read it rounded."""
    name = value.name
    if types[name] != FLOAT16:
        return []
    value.type.tensor_type.elem_type = FLOAT
    half, back = f"{name}__half", f"{name}__back"
    for node in graph.node:
        for index, read in enumerate(node.input):
            if read == name:
                node.input[index] = back
    make = onnx().helper.make_node
    casts = ((name, half, FLOAT16), (half, back, FLOAT))
    return [make("Cast", [source], [result], name=result, to=to) for source, result, to in casts]


def _rounding(node: Any, types: dict[str, int]) -> list[Any]:
    """A node in float32, and the roundings of what it gives in float16."""
    make = onnx().helper.make_node
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT16:
            attribute.i = FLOAT
    rounded = []
    for index, name in enumerate(node.output):
        if types.get(name) == FLOAT16:
            raw, half = f"{name}__raw", f"{name}__half"
            node.output[index] = raw
            rounded.append(make("Cast", [raw], [half], name=half, to=FLOAT16))
            rounded.append(make("Cast", [half], [name], name=f"{name}__back", to=FLOAT))
    return [node, *rounded]


def _widened(weight: Any) -> Any:
    numpy_helper = require("onnx.numpy_helper", purpose=_PURPOSE)
    return numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name)
