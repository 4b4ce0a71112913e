#!/usr/bin/env bash
# OpenVINO divides by other counts than ONNX where an AveragePool's last window hangs over.
#
# Seen with openvino 2026.4.1 (CPU, f32) beside onnxruntime 1.32.0: AveragePool 3x3, stride 2, pads 1,
# ceil_mode=1, count_include_pad=1 over ones. With ceil_mode the last window may reach beyond the pads;
# places there are no padding and do not count, in ONNX Runtime and PyTorch (nn.AvgPool2d(3, 2, 1,
# ceil_mode=True)). OpenVINO's last row and column have other values, silently.
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
image = np.ones((1, 1, 8, 8), np.float32)
first, found = both(
    "AveragePool", image, opset=19, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1,
    count_include_pad=1,
)
print("ONNX Runtime", first[0, 0, -1].round(4), "last row")
print("OpenVINO    ", found[0, 0, -1].round(4))
inside = np.abs(first - found)[..., :-1, :-1].max()
border = np.abs(first - found).max()
print(f"inside they differ by {inside:.1e}, at the border by {border:.3f}")
sys.exit(not (inside < 1e-6 and border > 0.05))
PY
"$folder/venv/bin/python" "$folder/show.py"
