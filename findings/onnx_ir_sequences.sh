#!/usr/bin/env bash
# onnx_ir's ShapeInferencePass makes an invalid network of a valid one with a sequence in it.
#
# onnx's inference says that SplitToSequence gives a sequence of float tensors. The pass takes over
# the element type alone, so a value that had no type becomes a tensor of floats; written to a file,
# that is in its value_info, and onnx.checker and ONNX Runtime refuse the file.
#
# Seen: onnx_ir 1.1.0, onnx 1.23.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install "onnx_ir==1.1.0" "onnx==1.23.2"
cat > "$work/sequence.py" <<'P'
import sys

import onnx
import onnx_ir
from onnx_ir.passes.common import ShapeInferencePass

model = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 20]>
    g (float[1,4] x) => (float[1,4] y) {
        s = SplitToSequence<axis = 1>(x)
        y = ConcatFromSequence<axis = 1>(s)
    }
""")
onnx.checker.check_model(model, full_check=True)
graph = onnx_ir.from_proto(model)
ShapeInferencePass()(graph)
kind = type(graph.graph[0].outputs[0].type).__name__
print(f"what SplitToSequence gives is a {kind}")
try:
    onnx.checker.check_model(onnx_ir.to_proto(graph), full_check=True)
except onnx.shape_inference.InferenceError as error:
    print(f"onnx.checker: {str(error).splitlines()[0]}")
    sys.exit(0 if kind == "TensorType" else 1)
sys.exit(1)
P
"$work/venv/bin/python" "$work/sequence.py"
