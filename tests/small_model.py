"""A two-class model, dark and bright, small enough to load in milliseconds, and the command."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path


def run_verb(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """`segedge VERB ...`, which must end with this code; in this process, which has all imported.

    What is about a process itself (signals, its end, its file descriptors) starts one.
    """
    from segedge.cli.main import run

    ended: object = 0
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            run([str(word) for word in words])
        except SystemExit as end:
            ended = end.code or 0
    said, told = out.getvalue(), err.getvalue()
    assert ended == code, said + told
    assert "Traceback" not in told
    return subprocess.CompletedProcess(words, code, said, told)


def write_model(
    path: Path, *, has_card: bool = True, dynamic: bool = False, opset: int = 17
) -> Path:
    """A network that pools and tells dark from bright: 1x3x48x64 to 1x2x6x8, or open axes."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from segedge.card.card import ModelCard

    weights = np.array([[-1, -1, -1], [1, 1, 1]], np.float32).reshape(2, 3, 1, 1)
    info = helper.make_tensor_value_info
    shapes = (["n", 3, "h", "w"], ["n", 2, "a", "b"]) if dynamic else ([1, 3, 48, 64], [1, 2, 6, 8])
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Conv", ["p", "w"], ["logits"]),
        ],
        "g",
        [info("x", TensorProto.FLOAT, shapes[0])],
        [info("logits", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(weights, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    card = ModelCard(
        ("dark", "bright"), ((0, 0, 0), (255, 255, 0)), 48, 64, stride=8,
        dynamic=("batch", "size") if dynamic else (),
    )  # fmt: skip
    if has_card:
        helper.set_model_props(proto, card.to_metadata())
    onnx.save(proto, path)
    return path
