"""Adaptive average pooling put together again.

torch's exporter writes ``AdaptiveAvgPool2d(k)`` out as index arithmetic: a gather of every window,
then one Gather and one Add for each of its cells, two hundred nodes for a pyramid pooling. It is
a linear map of rows and one of columns, so two small matrix products say the same.

Precondition: a region of operators that are linear in one four-axis value, with constants for
everything else, ends in a division or a mean. Proof: linear maps that agree on one random input
drawn from a continuous distribution agree everywhere (with probability one); the region is run in
float64 on such an input and compared with adaptive pooling by its definition. Postcondition: the
two results agree to 1e-9. Where any of this fails the graph stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.convert.passes.base import Pass
from segedge.convert.passes.separable import replace_by_products
from segedge.graph.kit import (
    Model,
    Node,
    Value,
    constant,
    drop_dead,
    ir,
    run_passes,
    set_constant,
    shape_of,
)
from segedge.machine.optional import require

_FIRST_INPUT_LINEAR = (
    "Gather",
    "GatherND",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Div",
    "ReduceMean",
)
"""Linear in the first input where all others are constants."""
_MIN_NODES, _MAX_NODES = 3, 4096
"""Smaller regions are not worth a rewrite; larger ones are no pooling."""


def _fuse(model: Model) -> str:
    """Replace written-out adaptive average poolings by two matrix products each."""
    fused: list[str] = []
    for position, node in enumerate(model.graph):
        node.meta["position"] = position
    for node in list(model.graph):
        if node.graph is None or node.op_type not in ("Div", "ReduceMean"):
            continue
        for source in _sources(node):
            pooled = _proven_size(source, node.outputs[0])
            if pooled is not None:
                height, width = (int(axis or 1) for axis in (shape_of(source) or ())[2:])
                rows, columns = pooling_matrix(height, pooled[0]), pooling_matrix(width, pooled[1])
                replace_by_products(model, source, node, rows=rows, columns=columns)
                fused.append(f"{pooled[0]}x{pooled[1]}")
                break
    drop_dead(model)
    return f"{len(fused)} fused: {', '.join(fused)}" if fused else ""


FUSE_POOLING = Pass("adaptive pooling", _fuse, idle="none written out")


def pooling_matrix(source: int, result: int) -> NDArray[np.float64]:
    """Row i averages source[floor(i * s / r) : ceil((i + 1) * s / r)], as torch defines it."""
    matrix = np.zeros((result, source))
    for row in range(result):
        first, last = row * source // result, -(-(row + 1) * source // result)
        matrix[row, first:last] = 1.0 / (last - first)
    return matrix


def _sources(end: Node) -> Iterator[Value]:
    """Each value that the end's result is linear in, nearest first.

    Going back, the value that is computed last is replaced by what it is computed from, until all
    branches have met in one value: that is a source.
    """
    frontier: dict[int, Value] = {id(v): v for v in _linear_operands(end) or []}
    nodes = 1
    while frontier and nodes < _MAX_NODES:
        latest = max(frontier.values(), key=lambda value: _position(value.producer()))
        if len(frontier) == 1 and nodes >= _MIN_NODES:
            yield latest
        producer = latest.producer()
        operands = None if producer is None else _linear_operands(producer)
        if operands is None:
            return
        nodes += 1
        del frontier[id(latest)]
        frontier.update({id(value): value for value in operands})


def _position(node: Node | None) -> int:
    """Place in the graph's order; -1 for what no node computes."""
    return -1 if node is None else int(node.meta.get("position", -1))


def _linear_operands(node: Node) -> list[Value] | None:
    """The inputs that a node is linear in, the others being constants; None where it is not."""
    inputs = [value for value in node.inputs if value is not None]
    if node.op_type in ("Add", "Sub") and not any(constant(v) is not None for v in inputs):
        return inputs
    if node.op_type == "Mul":
        free = [value for value in inputs if constant(value) is None]
        return free if len(free) == 1 else None
    if node.op_type == "Where" and constant(inputs[0]) is not None:
        filler = constant(inputs[1])
        return [inputs[2]] if filler is not None and not np.any(filler) else None
    if node.op_type in _FIRST_INPUT_LINEAR and constant(inputs[0]) is None:
        return inputs[:1] if all(constant(v) is not None for v in inputs[1:]) else None
    return None


def _proven_size(source: Value, result: Value) -> tuple[int, int] | None:
    """The pooled height and width, where the region is proven to be adaptive pooling."""
    before, after = shape_of(source), shape_of(result)
    if before is None or after is None or len(before) != 4 or len(after) != 4:
        return None
    if None in before[1:] or None in after[1:] or before[1] != after[1]:
        return None
    # A static batch is baked into reshapes and gathers; it must be kept for the probe.
    shape = tuple(axis or 1 for axis in before)
    probe = np.random.default_rng(7).standard_normal(shape)
    try:
        found = _run(source, result, probe)
    except Exception:  # the reference evaluator may lack a type or operator: then nothing is proven
        return None
    rows, columns = int(after[2] or 0), int(after[3] or 0)
    expected = pooling_matrix(shape[2], rows) @ probe @ pooling_matrix(shape[3], columns).T
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=1e-9):
        return None
    return rows, columns


def _run(source: Value, result: Value, probe: NDArray[np.float64]) -> NDArray[Any]:
    """Compute the region in float64 with onnx's reference evaluator."""
    reference, lib = require("onnx.reference", purpose="simplify the graph"), ir()
    region = lib.Model(lib.convenience.extract(source.graph, [source], [result]), ir_version=10)
    run_passes(region, "LiftConstantsToInitializers", lift_all_constants=True, size_limit=0)
    for weight in region.graph.initializers.values():
        if weight.dtype.is_floating_point():
            set_constant(weight, weight.const_value.numpy().astype(np.float64))
    evaluator = reference.ReferenceEvaluator(lib.to_proto(region))
    pooled: NDArray[Any] = evaluator.run(None, {source.name: probe})[0]
    return pooled
