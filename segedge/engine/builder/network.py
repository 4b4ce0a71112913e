"""The network that TensorRT makes of an ONNX graph: parsing it and reading its facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segedge.card.card import ModelCard
from segedge.engine.builder.errors import parse_error, parser_refusals
from segedge.engine.builder.log import LogRecord, build_log
from segedge.engine.builder.shapes import Shapes, input_shapes
from segedge.engine.facts import EngineTensor, NetworkLayer
from segedge.engine.flavour import Flavour
from segedge.engine.layers import dtype_word
from segedge.engine.options import BuildOptions, Precision
from segedge.errors import UsageError

_NUMPY_NAME = {
    "fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8", "uint8": "uint8",
    "int32": "int32", "int64": "int64", "bool": "bool", "fp8": "float8_e4m3fn",
}  # fmt: skip
_QUANTISED = ("QUANTIZE", "DEQUANTIZE")
_WITHOUT_ARITHMETIC = (
    "CONSTANT", "SHAPE", "CAST", "IDENTITY", "SHUFFLE", "GATHER", "SLICE", "CONCATENATION",
    "SQUEEZE", "UNSQUEEZE", "PADDING", "QUANTIZE", "DEQUANTIZE",
)  # fmt: skip


@dataclass(frozen=True)
class NetworkSummary:
    """What was given to the builder."""

    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    layers: tuple[NetworkLayer, ...]
    precision: Precision
    shapes: dict[str, Shapes]


def parse_network(
    flavour: Flavour, builder: Any, log: LogRecord, *, model: bytes, name: str, path: str
) -> Any:
    """Parse an ONNX graph into a strongly typed network.

    ``path`` is where it lies, for weights in a file beside it.
    """
    trt = flavour.module
    # TensorRT 11 knows nothing but strong typing and keeps the flag; 10 needs it.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, build_log(flavour))
    # Text that is no ONNX at all may parse as an empty graph.
    if not parser.parse(model, path) or network.num_outputs == 0:
        raise parse_error(name, flavour, parser_refusals(parser), log.errors)
    return network


def summarize(network: Any, options: BuildOptions, card: ModelCard | None) -> NetworkSummary:
    """Inputs, outputs, layers and precision of a parsed network."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = {t.name: input_shapes(t.name, tuple(t.shape), options, card) for t in inputs}
    layers = network_layers(network)
    return NetworkSummary(
        inputs=tuple(_input(tensor, shapes[tensor.name]) for tensor in inputs),
        outputs=network_outputs(network),
        layers=layers,
        precision=network_precision(layers),
        shapes=shapes,
    )


def network_layers(network: Any) -> tuple[NetworkLayer, ...]:
    """Every layer of a parsed network with the type and shape of its first output."""
    return tuple(
        _layer(network.get_layer(index))
        for index in range(network.num_layers)
        if network.get_layer(index).num_outputs
    )


def network_outputs(network: Any) -> tuple[EngineTensor, ...]:
    """The outputs; after `apply_shapes` with the shapes that the engine will have."""
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    return tuple(EngineTensor(t.name, numpy_name(t.dtype), _shape(t.shape)) for t in outputs)


def network_precision(layers: tuple[NetworkLayer, ...]) -> Precision:
    """int8 where there are quantisation layers, fp16 where most floats are half, else fp32."""
    if any(layer.kind in _QUANTISED for layer in layers):
        return "int8"
    half, wide = (
        sum(la.precision == word and la.kind not in _WITHOUT_ARITHMETIC for la in layers)
        for word in ("fp16", "fp32")
    )
    return "fp16" if half > wide else "fp32"


def fp32_in_half_network(layers: tuple[NetworkLayer, ...]) -> tuple[NetworkLayer, ...]:
    """Computing layers whose result is fp32: what fp16 conversion left alone."""
    return tuple(
        layer
        for layer in layers
        if layer.precision == "fp32" and layer.kind not in _WITHOUT_ARITHMETIC
    )


def check_precision(asked: Precision | None, found: Precision, name: str) -> None:
    """Refuse a graph that is not what was asked for."""
    if asked == "int8" and found != "int8":
        raise UsageError(
            f"{name} holds no quantisation nodes, so it cannot be built as int8",
            facts={"found": f"a {found} graph without QuantizeLinear"},
            fix="segedge quantize MODEL --calibrate IMAGES -o int8.onnx, then build that",
        )
    if asked == "fp32" and found != "fp32":
        raise UsageError(
            f"{name} is {found} already, so it cannot be built as fp32",
            facts={"found": f"a graph with {found} nodes"},
            fix="leave --precision out to build the graph as it is, or give the fp32 ONNX file",
        )


def _layer(layer: Any) -> NetworkLayer:
    tensor = layer.get_output(0)
    precision, shape = dtype_word(str(tensor.dtype)), _axes(tensor.shape)
    return NetworkLayer(layer.name, layer.type.name, precision, shape)


def _axes(dims: Any) -> tuple[int, ...]:
    """Axes of a shape; empty where it is not known before run time (``len`` of it raises)."""
    try:
        return tuple(dims)
    except ValueError:
        return ()


def _input(tensor: Any, shapes: Shapes) -> EngineTensor:
    smallest, _, largest = shapes
    shape = tuple(a if a == b else None for a, b in zip(smallest, largest, strict=True))
    profile = shapes if smallest != largest else ()
    return EngineTensor(tensor.name, numpy_name(tensor.dtype), shape, profile)


def _shape(dims: Any) -> tuple[int | None, ...]:
    return tuple(None if axis == -1 else axis for axis in _axes(dims))


def numpy_name(value: Any) -> str:
    """NumPy's name of a TensorRT ``DataType``."""
    word = dtype_word(str(value))
    return _NUMPY_NAME.get(word, word or str(value))
