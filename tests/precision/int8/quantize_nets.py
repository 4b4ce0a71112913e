"""Small networks with the joins that placement must get right, as files with a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx import helper, numpy_helper

from segedge.card.card import ModelCard
from segedge.graph import typed
from segedge.precision.int8.place import Layer, find_layers

SIZE = (24, 32)
SHAPE = (1, 3, *SIZE)


def card() -> ModelCard:
    return ModelCard(
        ("dark", "bright", "other"), ((0, 0, 0), (255, 255, 0), (0, 0, 255)), *SIZE, stride=1
    )


def network(body: str, weights: dict[str, Any], *, opset: int = 17) -> Any:
    """ONNX text nodes, ``image`` 1x3x24x32 to ``logits``; nodes are named by their outputs."""
    head = f'<ir_version: 9, opset_import: ["" : {opset}]>'
    signature = "g (float[1,3,24,32] image) => (float[n,c,h,w] logits)"
    model = onnx.parser.parse_model(f"{head} {signature} {{ {body} }}")
    for node in model.graph.node:
        node.name = node.output[0]
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def weight(outputs: int, inputs: int, k: int = 1, seed: int = 0) -> Any:
    rng = np.random.default_rng((seed, outputs, inputs, k))
    return rng.normal(0, 1 / np.sqrt(inputs * k * k), (outputs, inputs, k, k)).astype(np.float32)


RESIDUAL = """
    c1 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w1, b1)
    r1 = Relu (c1)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8> (r1, wd)
    rd = Relu (d)
    p = Conv (rd, wp)
    sum = Add (r1, p)
    rs = Relu (sum)
    e = Conv (rs, we)
    cat = Concat <axis = 1> (e, rs)
    o = Conv (cat, wo)
    ro = Relu (o)
    logits = Conv (ro, wl)
"""
"""A ReLU a Conv, a depthwise layer, a residual sum, a Concat and a classifier."""

WEIGHTS = {
    "w1": weight(8, 3, 3), "b1": np.linspace(-0.5, 0.5, 8).astype(np.float32),
    "wd": weight(8, 1, 3), "wp": weight(8, 8, seed=1), "we": weight(8, 8, seed=2),
    "wo": weight(8, 16), "wl": weight(3, 8),
}  # fmt: skip


def save(path: Path, model: Any = None, *, has_card: bool = True) -> Path:
    model = network(RESIDUAL, WEIGHTS) if model is None else model
    if has_card:
        helper.set_model_props(model, card().to_metadata())
    onnx.save(model, path)
    return path


def pictures(folder: Path, count: int = 4) -> Path:
    """Smooth noise of varied contrast, as PNG files."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = rng.normal(127, 30 + 20 * number, (6, 8, 3)).clip(0, 255).astype(np.uint8)
        image = cv2.resize(coarse, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def prepare(model: Any) -> typed.TypedGraph:
    return typed.prepare(onnx_ir.from_proto(model))


def layers_of(graph: Any, **options: Any) -> tuple[Layer, ...]:
    return find_layers(graph, SHAPE, **options)
