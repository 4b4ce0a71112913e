"""The layers of an engine: what TensorRT made of the network, in which types.

TensorRT writes them in three dialects, all of which end up as `EngineLayer` here:

- the engine inspector's JSON of TensorRT 10: ``"Format/Datatype": "Row major linear FP16 format"``;
- the JSON of TensorRT 11 and TensorRT-RTX: ``"Datatype": "Half", "Format": "(NHWC) ..."``;
- the lines in the builder's verbose log, which need no GPU, unlike the inspector.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: (?P<inputs>\[.*?\])"
    r"(?:, Constants: \[.*?\])?, Outputs: (?P<outputs>\[.*?\])"
    r"(?:, TacticName: (?P<tactic>[^,]*))?(?P<rest>, (?:StreamId|Metadata): .*|)$"
)
_LINE_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), (?:Location: \w+, )?"
    r"Dimensions: \[(?P<shape>[-\d,]*)\](?P<rest>.*?) \}"
)
_LINE_TYPES = re.compile(r"Datatype: (?P<dtype>\w+), Format: (?P<format>.*)$")
_DTYPE_WORDS = {
    "fp32": "fp32", "float": "fp32", "fp16": "fp16", "half": "fp16", "bf16": "bf16",
    "bfloat16": "bf16", "fp8": "fp8", "fp4": "fp4", "int8": "int8", "uint8": "uint8",
    "int4": "int4", "int32": "int32", "int64": "int64", "bool": "bool",
}  # fmt: skip
_ARITHMETIC = ("fp32", "fp16", "bf16", "fp8", "fp4", "int8", "int4", "uint8")


@dataclass(frozen=True)
class LayerTensor:
    """A tensor between two layers."""

    name: str
    dtype: str
    """``fp32``, ``fp16``, ``int8`` ...; empty where TensorRT does not say."""
    shape: tuple[int, ...]
    format: str = ""
    """Memory layout in TensorRT's words: ``(NHWC) Channel major format``."""


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine, usually several nodes of the ONNX graph fused."""

    name: str
    kind: str
    """TensorRT's layer type: ``CaskConvolution``, ``correlation``, ``kgen``, ``Reformat``."""
    inputs: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    tactic: str = ""
    """Kernel that was chosen."""
    nodes: tuple[str, ...] = ()
    """Names of the ONNX nodes inside it, where TensorRT tells them."""

    @property
    def precision(self) -> str:
        """``fp16``, or ``fp32→fp16`` where inputs and outputs differ; empty where not said."""
        first, last = (_widest(tensors) for tensors in (self.inputs, self.outputs))
        return last if not first or first == last else f"{first}→{last}" if last else first


def parse_inspector_json(text: str) -> tuple[EngineLayer, ...]:
    """Layers from the engine inspector's JSON, of either dialect.

    An engine that was built without details lists names only; those layers have no tensors.
    """
    document = json.loads(text)
    rows = document.get("Layers", []) if isinstance(document, dict) else document
    return tuple(_from_json(row) for row in rows)


def parse_build_log(text: str) -> tuple[EngineLayer, ...]:
    """Layers from the ``Layers:`` message of the builder's log; empty for any other text."""
    if not text.startswith("Layers:"):
        return ()
    lines = (line for line in text.splitlines() if line.startswith("Name: "))
    return tuple(layer for layer in map(_from_line, lines) if layer is not None)


def is_layer_log(text: str) -> bool:
    """Whether a log message lists the engine's layers."""
    return text.startswith("Layers:\n")


def stayed_fp32(layers: Iterable[EngineLayer]) -> tuple[EngineLayer, ...]:
    """Layers that compute in fp32 throughout: what an fp16 or int8 engine did not convert."""
    return tuple(layer for layer in layers if layer.precision == "fp32")


def precision_counts(layers: Iterable[EngineLayer]) -> dict[str, int]:
    """Number of layers of each precision, most frequent first."""
    return dict(Counter(layer.precision or "-" for layer in layers).most_common())


def _from_json(row: Any) -> EngineLayer:
    if isinstance(row, str):
        return EngineLayer(row, "", (), ())
    return EngineLayer(
        name=str(row.get("Name", "")),
        kind=str(row.get("LayerType", "")),
        inputs=tuple(map(_json_tensor, row.get("Inputs", ()))),
        outputs=tuple(map(_json_tensor, row.get("Outputs", ()))),
        tactic=str(row.get("TacticName", row.get("TacticValue", ""))),
        nodes=tuple(_ONNX_NODE.findall(str(row.get("Metadata", "")))),
    )


def _json_tensor(row: Mapping[str, Any]) -> LayerTensor:
    both = str(row.get("Format/Datatype", ""))
    dtype = dtype_word(str(row.get("Datatype", both)))
    shape = tuple(int(axis) for axis in row.get("Dimensions", ()))
    return LayerTensor(str(row.get("Name", "")), dtype, shape, str(row.get("Format", both)))


def _from_line(line: str) -> EngineLayer | None:
    match = _LINE.match(line)
    if match is None:
        return None
    return EngineLayer(
        name=match["name"],
        kind=match["kind"],
        inputs=_line_tensors(match["inputs"]),
        outputs=_line_tensors(match["outputs"]),
        tactic=match["tactic"] or "",
        nodes=tuple(_ONNX_NODE.findall(match["rest"])),
    )


def _line_tensors(text: str) -> tuple[LayerTensor, ...]:
    tensors = []
    for match in _LINE_TENSOR.finditer(text):
        shape = tuple(int(axis) for axis in match["shape"].split(",") if axis)
        types = _LINE_TYPES.search(match["rest"])
        both = match["rest"].partition("Format/Datatype: ")[2]
        dtype = dtype_word(types["dtype"] if types else both)
        tensors.append(LayerTensor(match["name"], dtype, shape, types["format"] if types else both))
    return tuple(tensors)


def dtype_word(text: str) -> str:
    """``fp16`` from ``Half``, ``DataType.HALF`` or ``Row major linear FP16 format``."""
    for word in re.findall(r"[A-Za-z]+\d*", text):
        if word.lower() in _DTYPE_WORDS:
            return _DTYPE_WORDS[word.lower()]
    return ""


def _widest(tensors: Iterable[LayerTensor]) -> str:
    """The widest arithmetic type among tensors; shape tensors (int32, int64, bool) count last."""
    found = {tensor.dtype for tensor in tensors if tensor.dtype}
    return next((dtype for dtype in _ARITHMETIC if dtype in found), min(found, default=""))
