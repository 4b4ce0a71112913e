"""Layers in TensorRT's three dialects, and what stayed fp32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segedge.card.plain import from_plain, to_plain
from segedge.engine.builder.builder import build_plan
from segedge.engine.builder.inspect import engine_inspect, layer_bytes
from segedge.engine.file import facts_path, write_engine
from segedge.engine.flavour import Flavour
from segedge.engine.layers import (
    EngineLayer,
    dtype_word,
    parse_build_log,
    parse_inspector_json,
    precision_counts,
    stayed_fp32,
)
from segedge.engine.options import BuildOptions

TEN = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to stem + relu",
            "LayerType": "Reformat",
            "Inputs": [
                {
                    "Name": "image",
                    "Location": "Device",
                    "Dimensions": [1, 3, 32, 64],
                    "Format/Datatype": "Row major linear FP32 format",
                }
            ],
            "Outputs": [
                {
                    "Name": "Reformatted Input",
                    "Location": "Device",
                    "Dimensions": [1, 3, 32, 64],
                    "Format/Datatype": "Channel major FP16 format where channel % 4 == 0",
                }
            ],
            "ParameterType": "Reformat",
            "TacticValue": "0x00000000000003ea",
            "StreamId": 0,
            "Metadata": "",
        },
        {
            "Name": "stem + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Dimensions": [1, 3, 32, 64], "Format/Datatype": "Half"}],
            "Outputs": [{"Name": "y", "Dimensions": [1, 8, 32, 64], "Format/Datatype": "Half"}],
            "TacticName": "sm80_xmma_fprop",
            "Metadata": "[ONNX Layer: stem]\x1e[ONNX Layer: relu]",
        },
    ],
    "Bindings": ["image", "logits"],
}
ELEVEN = {
    "Layers": [
        {
            "Name": "stem_myl0_1",
            "LayerType": "correlation",
            "Inputs": [
                {
                    "Name": "x",
                    "Dimensions": [1, 3, 32, 64],
                    "Datatype": "Int8",
                    "Format": "(NHWC) Channel major format",
                }
            ],
            "Outputs": [
                {
                    "Name": "y",
                    "Dimensions": [1, 8, 32, 64],
                    "Datatype": "Float",
                    "Format": "(NHWC) Channel major format",
                }
            ],
            "TacticName": "t",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: stem]",
        }
    ],
    "I/O Tensors": [{"Name": "image", "IOMode": "Input", "DataType": "Float"}],
}


def test_dialect_of_tensorrt_10() -> None:
    reformat, conv = parse_inspector_json(json.dumps(TEN))
    assert (reformat.kind, reformat.precision) == ("Reformat", "fp32→fp16")
    assert reformat.inputs[0].format == "Row major linear FP32 format"
    assert (conv.precision, conv.nodes, conv.tactic) == (
        "fp16",
        ("stem", "relu"),
        "sm80_xmma_fprop",
    )


def test_dialect_of_tensorrt_11() -> None:
    (layer,) = parse_inspector_json(json.dumps(ELEVEN))
    assert layer.precision == "int8→fp32"
    assert layer.outputs[0].format == "(NHWC) Channel major format"
    assert layer_bytes(layer) == 8 * 32 * 64 * 4


def test_names_only_and_bare_lists() -> None:
    (layer,) = parse_inspector_json('{"Layers": ["stem + relu"]}')
    assert (layer.name, layer.precision, layer.inputs) == ("stem + relu", "", ())
    assert parse_inspector_json("[]") == ()


def test_dialect_of_the_build_log() -> None:
    text = (
        "Layers:\n"
        "Name: head, LayerType: correlation, Inputs: [ { Name: b, Dimensions: [1,8,32,64], "
        "Strides: [1,1,1,1], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major "
        "format }, { Name: s, Dimensions: [], Strides: [], StrideOrder: [], Datatype: Float, "
        "Format: (Linear) Row major linear format }], Constants: [ { Name: c, Dimensions: [4], "
        "Strides: [1], StrideOrder: [0], Datatype: Half, Format: (Linear) x }], Outputs: [ { Name: "
        "logits, Dimensions: [1,4,16,32], Strides: [1,1,1,1], StrideOrder: [3,2,1,0], Datatype: "
        "Half, Format: (Linear) Row major linear format }], TacticName: t, StreamId: 0, Metadata: "
        "[ONNX Layer: head]\n"
        "Name: odd line without the rest\n"
        "\nI/O Tensors:\n Name: image, IOMode: Input\n"
    )
    (layer,) = parse_build_log(text)
    assert [t.name for t in layer.inputs] == ["b", "s"]
    assert layer.inputs[1].shape == ()
    assert layer.outputs[0].shape == (1, 4, 16, 32)
    assert (layer.tactic, layer.nodes) == ("t", ("head",))
    assert from_plain(EngineLayer, json.loads(json.dumps(to_plain(layer)))) == layer
    assert parse_build_log("Building...") == ()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Float", "fp32"),
        ("DataType.HALF", "fp16"),
        ("Row major linear FP16 format", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("DataType.UINT8", "uint8"),
        ("who knows", ""),
    ],
)
def test_types_in_every_spelling(text: str, word: str) -> None:
    assert dtype_word(text) == word


def test_what_stayed_fp32(rtx: Flavour, model: Path, tmp_path: Path) -> None:
    options = BuildOptions(precision="fp16", keep_fp32=("head",))
    built = build_plan(model, flavour=rtx, options=options)
    path = tmp_path / "m.engine"
    write_engine(path, built.plan, built.facts)
    report = engine_inspect(path)
    assert report.layers_from == "the build"
    assert [layer.name for layer in report.fp32_nodes] == ["head"]
    assert [layer for layer in report.fp32_layers if "head" in layer.nodes]
    assert set(report.fp32_layers) == set(stayed_fp32(report.engine_layers))
    data = json.loads(json.dumps(report.to_dict()))
    assert data["precision"] == "fp16"
    assert data["precisions"] == precision_counts(report.engine_layers)
    assert data["build"]["options"]["keep_fp32"] == ["head"]


def test_an_engine_without_facts_says_what_it_can(
    rtx: Flavour, model: Path, tmp_path: Path
) -> None:
    built = build_plan(model, flavour=rtx)
    path = tmp_path / "m.engine"
    write_engine(path, built.plan, built.facts)
    facts_path(path).unlink()
    report = engine_inspect(path)
    assert report.library == "TensorRT-RTX 1.7.1"
    assert report.device.startswith("sm_80")
    assert (report.engine_layers, report.precision) == ((), "")
    assert "not known" in report.layers_from
