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

from segedge.graph.kit import (
    FLOAT,
    FLOAT16,
    Model,
    Node,
    Value,
    attribute,
    ir,
    new_node,
    put_behind,
    session_of,
    set_constant,
    set_type,
    shape_of,
    values_by_name,
    values_of,
)
from segedge.graph.typed import card_of, fresh, is_float

Kind = Literal["images", "noise"]
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
    model: Model, images: Sequence[NDArray[Any]], *, names: Sequence[str] | None = None
) -> Probes:
    """Run a network and reduce every float value inside it (or those named) to its extremes.

    The reductions are part of the graph, so memory stays that of plain inference.
    """
    names = float_values(model) if names is None else names
    session = session_of(_with_probes(model, names))
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
    model: Model, images: Sequence[NDArray[Any]] | None
) -> tuple[list[NDArray[Any]], Kind]:
    """The tensors to measure on: the given ones with a batch axis, or two of noise."""
    if images is not None and len(images):
        return [image[None] if image.ndim == 3 else image for image in images], "images"
    value = model.graph.inputs[0]
    shape, dtype = _shape(value, _usual_shape(model)), value.dtype.numpy()
    rng = np.random.default_rng(0)
    if dtype.kind == "f":
        return [rng.standard_normal(shape).astype(dtype) for _ in range(2)], "noise"
    return [rng.integers(0, 256, shape).astype(dtype) for _ in range(2)], "noise"


def _usual_shape(model: Model) -> tuple[int, ...]:
    """One image of the size that the card prefers, or a small one where there is no card."""
    card = card_of(model)
    if card is None:
        return (1, 3, *_DEFAULT_SIZE)
    return card.input_shape()


def _shape(value: Value, usual: Sequence[int]) -> list[int]:
    """An input's shape, its dynamic axes as in the usual shape (1 where the rank is another)."""
    axes = shape_of(value) or ()
    fill = usual if len(axes) == len(usual) else [1] * len(axes)
    return [axis or other for axis, other in zip(axes, fill, strict=True)]


def float_values(model: Model) -> list[str]:
    """Float inputs and node outputs of the main graph, in order."""
    values = (value for value in values_of(model) if not value.is_initializer())
    return [value.name for value in values if is_float(value)]


def _with_probes(model: Model, names: Sequence[str]) -> Model:
    """The network with max, min and sum of each value as further outputs."""
    copy = model.clone()
    values = values_by_name(copy)
    taken = set(values)
    for name in names:
        value = values[name]
        if _is_half(value):
            cast = new_node("Cast", [value], fresh(f"{name}_probed", taken), to=FLOAT)
            copy.graph.append(cast)
            value = cast.outputs[0]
        for reduction in ("ReduceMax", "ReduceMin", "ReduceSum"):
            result = fresh(f"{name}_{reduction}", taken)
            node = new_node(reduction, [value], result, dtype=FLOAT, shape=(), keepdims=0)
            copy.graph.append(node)
            copy.graph.outputs.append(node.outputs[0])
    return copy


def emulated(model: Model) -> Model:
    """A float16 graph rewritten in float32 that rounds where the float16 graph rounds.

    Value names stay, so that what is found in one graph can be named in the other.
    """
    copy = model.clone()
    graph = copy.graph
    for weight in filter(_is_half, graph.initializers.values()):
        set_constant(weight, weight.const_value.numpy().astype(np.float32))
    nodes = list(graph)
    for value in filter(_is_half, graph.inputs):
        put_behind(copy, value, _rounding(value))
    for node in nodes:
        if node.op_type == "Cast" and attribute(node, "to", FLOAT) == FLOAT16:
            node.attributes["to"] = ir().AttrInt64("to", FLOAT)
        for value in filter(_is_half, node.outputs):
            put_behind(copy, value, _rounding(value), renamed=f"{value.name}__raw")
    return copy


def _is_half(value: Value) -> bool:
    return is_float(value) and value.dtype == FLOAT16


def _rounding(value: Value) -> list[Node]:
    """Make a value float32; casts there and back, by which its readers shall get it rounded."""
    set_type(value, FLOAT)
    nodes, last = [], value
    for suffix, dtype in (("half", FLOAT16), ("back", FLOAT)):
        name = f"{value.name}__{suffix}"
        nodes.append(
            new_node("Cast", [last], name, dtype=dtype, shape=value.shape, name=name, to=dtype)
        )
        last = nodes[-1].outputs[0]
    return nodes
