#!/usr/bin/env bash
# OpenVINO's MaxPool with ceil_mode adds a row and a column of -3.4e38 that ONNX does not have.
#
# Seen with openvino 2026.4.1 (CPU, f32) beside onnxruntime 1.32.0, opset 22, whose text says that windows
# which would start in the right padded region are ignored. MaxPool 1x1, stride 2, ceil_mode=1 of 4x4 is 2x2 in
# ONNX Runtime and PyTorch (F.max_pool2d(x, 1, 2, ceil_mode=True)); in OpenVINO it is 3x3, and what no
# window saw holds the lowest float32. So does 2x2, stride 2, pads 1 of 5x5.
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
image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
first, found = both("MaxPool", image, opset=22, kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1)
print("ONNX Runtime", first.shape, first[0, 0].tolist())
print("OpenVINO    ", found.shape, found[0, 0].tolist())
five = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
padded = dict(opset=22, kernel_shape=[2, 2], strides=[2, 2], pads=[1] * 4, ceil_mode=1)
second, other = both("MaxPool", five, **padded)
print("2x2, stride 2, pads 1 of 5x5:", second.shape, "and", other.shape)
sys.exit(not (first.shape == (1, 1, 2, 2) and found.shape == (1, 1, 3, 3) and found.min() < -1e38
              and other.shape == (1, 1, 4, 4)))
PY
"$folder/venv/bin/python" "$folder/show.py"
