"""A two-class model, dark and bright, small enough to load in milliseconds, and the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_verb(verb: str, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """`segedge VERB ...` in a process of its own, which must end with this code."""
    done = subprocess.run(
        [sys.executable, "-m", "segedge", verb, *map(str, words)],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def write_model(path: Path, *, has_card: bool) -> Path:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from segedge.card import ModelCard

    weights = np.array([[-1, -1, -1], [1, 1, 1]], np.float32).reshape(2, 3, 1, 1)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Conv", ["p", "w"], ["logits"]),
        ],
        "g",
        [info("x", TensorProto.FLOAT, [1, 3, 48, 64])],
        [info("logits", TensorProto.FLOAT, [1, 2, 6, 8])],
        [numpy_helper.from_array(weights, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    card = ModelCard(("dark", "bright"), ((0, 0, 0), (255, 255, 0)), 48, 64, stride=8)
    for key, value in card.to_metadata().items() if has_card else ():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(proto, path)
    return path
