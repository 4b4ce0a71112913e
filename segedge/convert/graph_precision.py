"""The precision that the types in a graph say, for files whose card says nothing."""

from __future__ import annotations

from pathlib import Path

from segedge.optional import require


def graph_precision(path: Path) -> str:
    """``int8`` with Q/DQ nodes, ``float16`` with weights in it, else ``float32``."""
    onnx = require("onnx", purpose="read the graph")
    graph = onnx.load(str(path), load_external_data=False).graph
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        return "int8"
    half = onnx.TensorProto.FLOAT16
    return "float16" if any(one.data_type == half for one in graph.initializer) else "float32"
