#!/usr/bin/env bash
# OpenVINO computes an ONNX Resize with antialias=1 as if it had none, without a word.
#
# Seen with openvino 2026.4.1 (CPU, f32) beside onnxruntime 1.32.0: halving a row of alternating 0 and 8
# with antialias gives means near 4 in ONNX Runtime (as the ONNX reference and PyTorch's antialias=True
# have it). OpenVINO gives 0 and 8 again where it takes every third pixel of the row: aliasing as with
# antialias=0, bit for bit. A network with such a layer computes something else there, and nothing says so.
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
row = np.tile(np.array([0, 8], np.float32), 9)
image = np.broadcast_to(row, (1, 1, 18, 18)).copy()
scales = np.array([1, 1, 1 / 3, 1 / 3], np.float32)
smooth, found = both("Resize", image, [None, scales], mode="linear", antialias=1)
_, plain = both("Resize", image, [None, scales], mode="linear", antialias=0)
print("ONNX Runtime, antialias=1", smooth[0, 0, 3].round(2))
print("OpenVINO,     antialias=1", found[0, 0, 3].round(2))
print("OpenVINO,     antialias=0", plain[0, 0, 3].round(2))
same = np.array_equal(found, plain)
print(f"OpenVINO's two are equal: {same}; from ONNX Runtime up to {np.abs(found - smooth).max():.2f}")
sys.exit(not (same and np.abs(found - smooth).max() > 2))
PY
"$folder/venv/bin/python" "$folder/show.py"
