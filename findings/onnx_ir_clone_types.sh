#!/usr/bin/env bash
# A clone of an onnx_ir model shares the types of its values with the model: giving a value of the
# clone another element type changes the model, too. Its shapes are its own.
#
# So a program that clones a float32 network and makes float16 of the clone has no float32 network
# any more. No error, no warning; `Model.clone` says that it makes a deep copy, of which tensors of
# constants alone are shared.
#
# Seen: onnx_ir 1.1.0. A value whose `type` is replaced, instead of its `dtype`, is the clone's own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install "onnx_ir==1.1.0"
"$work/venv/bin/python" - <<'P'
import sys

import onnx_ir as ir


def network():
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2, 3]))
    node = ir.node("Relu", [x])
    y = node.outputs[0]
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape([2, 3])
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 17}, name="g")
    return ir.Model(graph, ir_version=8)


model = network()
clone = model.clone()
clone.graph.inputs[0].dtype = ir.DataType.FLOAT16
clone.graph.outputs[0].shape[0] = 7
input_type, output_shape = model.graph.inputs[0].dtype, model.graph.outputs[0].shape
other = network()
copy = other.clone()
copy.graph.inputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
replaced = other.graph.inputs[0].dtype
print(f"input of the model, after the clone's dtype was set:  {input_type}")
print(f"output's shape, after the clone's was changed:        {output_shape}")
print(f"input of another, after its clone's type was replaced: {replaced}")
kept = list(output_shape) == [2, 3] and replaced == ir.DataType.FLOAT
sys.exit(0 if kept and input_type == ir.DataType.FLOAT16 else 1)
P
