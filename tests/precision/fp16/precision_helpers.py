"""Small graphs, graph invariants and TensorRT-RTX builds for the fp16 tests."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from segedge.engine.builder.log import build_log, recorded
from segedge.engine.flavour import is_installed, load_flavour
from segedge.graph import typed
from segedge.precision import measure
from segedge.precision.fp16 import fp16

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16


# What is tested works on onnx_ir's graphs; what these tests look at are onnx's own.
graph_of, proto_of = onnx_ir.from_proto, onnx_ir.to_proto


def to_fp16(model: Any, **options: Any) -> Any:
    half, report = fp16.to_fp16(graph_of(model), **options)
    return proto_of(half), report


def prepare(model: Any) -> typed.TypedGraph:
    return typed.prepare(graph_of(model))


def retype(graph: typed.TypedGraph, **options: Any) -> Any:
    return proto_of(fp16.retype(graph, **options))


def keep_fp32(model: Any, names: Any) -> Any:
    return proto_of(fp16.keep_fp32(graph_of(model), names))


def emulated(model: Any) -> Any:
    return proto_of(measure.emulated(graph_of(model)))


def captured(node: Any) -> set[str]:
    """Names that a node's subgraphs read from outside themselves."""
    names: set[str] = set()
    for graph in [a.g for a in node.attribute if a.HasField("g")]:
        made = {name for inner in graph.node for name in inner.output}
        made |= {value.name for value in (*graph.input, *graph.initializer)}
        for inner in graph.node:
            names |= ({*inner.input} | captured(inner)) - made
    return names


def network(body: str, weights: dict[str, Any] | None = None, *, opset: int = 20) -> Any:
    """A model of ONNX text nodes: ``image`` 1x3x8x16 to ``logits`` 1x?x?x?."""
    head = f'<ir_version: 9, opset_import: ["" : {opset}]>'
    signature = "g (float[1,3,8,16] image) => (float[n,c,h,w] logits)"
    model = onnx.parser.parse_model(f"{head} {signature} {{ {body} }}")
    for node in model.graph.node:
        node.name = node.name or node.output[0]
    add_weights(model, weights or {})
    return model


def add_weights(model: Any, weights: dict[str, Any]) -> None:
    for name, value in weights.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))


def conv_weight(outputs: int, inputs: int, scale: float = 1.0, *, k: int = 1) -> Any:
    rng = np.random.default_rng(outputs * 100 + inputs)
    return (rng.normal(0, scale, (outputs, inputs, k, k))).astype(np.float32)


def images(count: int = 2) -> list[Any]:
    rng = np.random.default_rng(5)
    return [rng.normal(0, 1, (1, 3, 8, 16)).astype(np.float32) for _ in range(count)]


CONV = {"w": conv_weight(4, 3), "v": conv_weight(6, 4)}


def convert(body: str, weights: dict[str, Any] | None = None, **options: Any) -> Any:
    model = network(
        body, CONV if weights is None else {**CONV, **weights}, opset=options.pop("opset", 20)
    )
    half, report = to_fp16(model, images=images(), **options)
    require_sound(half)
    return half, report


def types_of(model: Any) -> dict[str, int]:
    """Element type of every value, inferred anew and strictly."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    graph = inferred.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return found | {w.name: w.data_type for w in graph.initializer}


def node_types(model: Any) -> dict[str, int]:
    """Name to the element type of what each node gives first."""
    types = types_of(model)
    return {node.name: types[node.output[0]] for node in model.graph.node}


def casts(model: Any) -> list[Any]:
    return [node for node in model.graph.node if node.op_type == "Cast"]


def require_sound(model: Any) -> None:
    """Valid ONNX that ONNX Runtime loads, and no cast that another one makes needless."""
    onnx.checker.check_model(model, full_check=True)
    open_model(model)
    types = types_of(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    floats = [c for c in casts(model) if {types[c.input[0]], types[c.output[0]]} <= {1, 10}]
    read = {name for node in model.graph.node for name in (*node.input, *captured(node))}
    read |= {value.name for value in model.graph.output}
    for cast in floats:
        before = makers.get(cast.input[0])
        assert before not in floats, f"{cast.name} casts what {before.name} has cast"
        assert types[cast.input[0]] != types[cast.output[0]], f"{cast.name} changes nothing"
        assert cast.output[0] in read, f"{cast.name} is read by nobody"
        assert cast.input[0] not in {w.name for w in model.graph.initializer}, "a cast weight"
    assert max(Counter((c.input[0], types[c.output[0]]) for c in floats).values(), default=1) == 1
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def open_model(model: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    data = model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run_model(model: Any, image: Any) -> Any:
    session = open_model(model)
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def build_rtx(model: Any, profile: Any = None) -> str:
    """Parse and build strongly typed with TensorRT-RTX; "" or the parser's and builder's words.

    Skips the test where the library is absent.
    """
    if not is_installed("tensorrt_rtx"):
        pytest.skip("TensorRT-RTX is not installed")
    flavour = load_flavour("tensorrt_rtx")
    # Its one logger: a second one can stop the process for ever (segedge/engine/builder/log.py).
    with recorded(flavour) as words:
        return _build(flavour.module, build_log(flavour), words.errors, model, profile)


def _build(trt: Any, log: Any, said: list[str], model: Any, profile: Any) -> str:
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model.SerializeToString()):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        return "; ".join(f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors)
    config = builder.create_builder_config()
    if profile is not None:
        shapes = builder.create_optimization_profile()
        shapes.set_shape(model.graph.input[0].name, *profile)
        config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(network, config)
    return "" if plan is not None else "; ".join(said) or "no plan"


def value(name: str, shape: Any, dtype: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)
