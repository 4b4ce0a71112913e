"""Biases that quantizers store as int32 codes become the floats that they stand for.

TensorRT takes no int32 behind a DequantizeLinear; every runtime takes a float bias, and adds it to
the sums of integers all the same.
"""

from __future__ import annotations

import numpy as np

from segedge.convert.passes.base import Pass
from segedge.graph.kit import (
    Model,
    Node,
    attribute,
    constant,
    drop_dead,
    initializer,
)


def _float_biases(model: Model) -> str:
    found = [node for node in model.graph if _is_bias(node)]
    for node in found:
        codes, scale = (constant(value) for value in node.inputs[:2])
        assert codes is not None
        assert scale is not None
        axis = attribute(node, "axis", 1) if codes.ndim > 1 else 0
        along = [-1 if a == axis % codes.ndim else 1 for a in range(codes.ndim)]
        wide = scale.astype(np.float64).reshape(along if scale.size > 1 else ())
        floats = (codes * wide).astype(scale.dtype)
        bias = initializer(model, f"{node.outputs[0].name}_float", floats)
        for use in list(node.outputs[0].uses()):
            use.node.replace_input_with(use.idx, bias)
    drop_dead(model)
    return f"{len(found)} int32 biases made float" if found else ""


def _is_bias(node: Node) -> bool:
    """A DequantizeLinear of int32 constants; their zero point is 0 by the standard."""
    if node.op_type != "DequantizeLinear" or constant(node.inputs[1]) is None:
        return False
    codes = constant(node.inputs[0])
    return codes is not None and codes.dtype == np.int32


FLOAT_BIASES = Pass("float biases", _float_biases, idle="no int32 biases")
