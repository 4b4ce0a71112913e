#!/usr/bin/env bash
# OpenVINO normalises a Softmax of ONNX opset 11 over one axis, where ONNX takes that axis and all behind.
#
# Seen with openvino 2026.4.1 (CPU, f32) beside onnxruntime 1.32.0: before opset 13 Softmax with axis=1
# takes its input as a matrix, N x (C*H*W), and all values of an image add up to one. OpenVINO makes every
# pixel's classes add up to one, as from opset 13 on. Its LogSoftmax of the same opset is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import sys
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import helper, numpy_helper


def both(operator, image, inputs=(), opset=20, **attributes):
    """One node, on ONNX Runtime and on OpenVINO's CPU device in float32."""
    names = [f"c{k}" if array is not None else "" for k, array in enumerate(inputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *names], ["y"], **attributes)], "g",
        [helper.make_tensor_value_info("x", 1, image.shape)],
        [helper.make_tensor_value_info("y", 1, list("nchw"))],
        [numpy_helper.from_array(a, n) for n, a in zip(names, inputs) if n],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    (first,) = session.run(None, {"x": image})
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return first, compiled(image)[0].copy()


print(f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}")
image = np.random.default_rng(0).standard_normal((1, 3, 2, 2)).astype(np.float32)
first, found = both("Softmax", image, opset=11, axis=1)
print(f"Softmax      sum of 3x2x2: ONNX Runtime {first.sum():.3f}, OpenVINO {found.sum():.3f}")
log_first, log_found = both("LogSoftmax", image, opset=11, axis=1)
sums = np.exp(log_first).sum(), np.exp(log_found).sum()
print(f"LogSoftmax   exp, then sum: ONNX Runtime {sums[0]:.3f}, OpenVINO {sums[1]:.3f}")
sys.exit(not (abs(first.sum() - 1) < 1e-4 and abs(found.sum() - 4) < 1e-4 and abs(sums[1] - 1) < 1e-4))
PY
"$folder/venv/bin/python" "$folder/show.py"
