"""Tiny ONNX graphs, and the really trained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segedge.card.card import ModelCard

Axis = int | str
MODELS = Path(__file__).parents[3] / "shared" / "models"
CARD = ModelCard(
    classes=("road", "car", "sky", "tree"),
    palette_rgb=((128, 64, 128), (0, 0, 142), (70, 130, 180), (107, 142, 35)),
    input_height=32,
    input_width=64,
)
"""The card of `conv_model`, but for its stride."""


def model_of(
    nodes: list[Any],
    *,
    inputs: dict[str, tuple[Axis, ...]],
    outputs: dict[str, tuple[Axis, ...]],
    weights: dict[str, np.ndarray] | None = None,
    domains: tuple[str, ...] = (),
    output_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(k, output_type, v) for k, v in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def conv_model(shape: tuple[Axis, ...] = (1, 3, 32, 64), *, seed: int = 0) -> onnx.ModelProto:
    """Convolution, ReLU, strided convolution to 4 channels."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node(
            "Conv", ["b", "w1"], ["logits"], name="head", pads=[1, 1, 1, 1], strides=[2, 2]
        ),
    ]
    weights = {
        "w0": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "w1": rng.normal(0, 0.3, (4, 8, 3, 3)).astype(np.float32),
    }
    halves = tuple(a // 2 if isinstance(a, int) else f"half_{a}" for a in shape[2:])
    out = (shape[0], 4, *halves)
    return model_of(nodes, inputs={"image": shape}, outputs={"logits": out}, weights=weights)


def quantized_model(*, bias: bool = False) -> onnx.ModelProto:
    """A convolution between Q/DQ pairs; ``bias`` puts an int32 bias behind DequantizeLinear."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s", "z"], ["qi"], name="q_in"),
        helper.make_node("DequantizeLinear", ["qi", "s", "z"], ["di"], name="dq_in"),
        helper.make_node("DequantizeLinear", ["qw", "s", "z"], ["dw"], name="dq_w"),
        helper.make_node(
            "Conv", ["di", "dw", *(["b"] if bias else [])], ["logits"], name="c", pads=[1, 1, 1, 1]
        ),
    ]
    if bias:
        nodes.insert(0, helper.make_node("DequantizeLinear", ["qb", "s"], ["b"], name="dq_bias"))
    weights = {
        "s": np.array(0.05, np.float32),
        "z": np.array(0, np.int8),
        "qw": rng.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8),
    }
    if bias:
        weights["qb"] = np.arange(4, dtype=np.int32)
    return model_of(
        nodes,
        inputs={"image": (1, 3, 32, 64)},
        outputs={"logits": (1, 4, 32, 64)},
        weights=weights,
    )


def nonzero_model() -> onnx.ModelProto:
    node = helper.make_node("NonZero", ["image"], ["where"], name="find_things")
    return model_of(
        [node],
        inputs={"image": (1, 3, 8, 8)},
        outputs={"where": (4, "count")},
        output_type=TensorProto.INT64,
    )


def deform_model() -> onnx.ModelProto:
    node = helper.make_node(
        "DeformConv", ["image", "w", "o"], ["logits"], name="dcn", kernel_shape=[3, 3]
    )
    return model_of(
        [node],
        inputs={"image": (1, 3, 8, 8), "o": (1, 18, 6, 6)},
        outputs={"logits": (1, 4, 6, 6)},
        weights={"w": np.ones((4, 3, 3, 3), np.float32)},
    )


def save(model: onnx.ModelProto, path: Path, *, card: ModelCard | None = None) -> Path:
    if card is not None:
        helper.set_model_props(model, card.to_metadata())
    onnx.save(model, path)
    return path


def shared_model(name: str) -> Path:
    """A really trained network, or a skip."""
    path = MODELS / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


def quantize(source: Path, target: Path, inputs: list[np.ndarray]) -> Path:
    """The int8 form (Q/DQ around every convolution) as docs/tensorrt.md makes it."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared)
    quantize_static(
        prepared,
        target,
        _Calibration(inputs),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": True, "QuantizeBias": False},
    )
    return target


class _Calibration:
    def __init__(self, inputs: list[np.ndarray]) -> None:
        self._inputs = list(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"image": self._inputs.pop()} if self._inputs else None
