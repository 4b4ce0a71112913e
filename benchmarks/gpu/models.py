"""Networks to run: those named, those beside the repository, else a small one made here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.labels import distinct_palette

SHARED = Path(__file__).parents[3] / "shared" / "models"
CLASSES = 19


def a_card(height: int, width: int, *, stride: int = 8, classes: int = CLASSES) -> ModelCard:
    """A card for networks of noise."""
    names = tuple(f"class {index}" for index in range(classes))
    return ModelCard(names, distinct_palette(classes), height, width, stride=stride)


def default_models() -> list[Path]:
    """The trained networks where they are, else a small convolution."""
    return sorted(SHARED.glob("*.onnx")) or [small_model()]


def small_model(height: int = 256, width: int = 512) -> Path:
    """Two convolutions with a card, stride 2, in a temporary folder."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {"w0": (16, 3, 3, 3), "w1": (CLASSES, 16, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["logits"], pads=[1, 1, 1, 1]),
    ]
    sizes = {"image": (1, 3, height, width), "logits": (1, CLASSES, height // 2, width // 2)}
    ends: dict[str, Any] = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in sizes.items()
    }
    arrays = [
        numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), key)
        for key, shape in weights.items()
    ]
    graph = helper.make_graph(nodes, "small", [ends["image"]], [ends["logits"]], arrays)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    helper.set_model_props(model, a_card(height, width, stride=2).to_metadata())
    path = Path(tempfile.mkdtemp(prefix="segedge-")) / "small.onnx"
    onnx.save(model, path)
    return path


def with_card(model: Path) -> tuple[Path, ModelCard]:
    """A model whose tail is cut, and its card; exported to a temporary folder where it has none.

    Raises:
        SegedgeError: It cannot be exported.
        ImportError: What exports is not installed.
    """
    from segedge.card.modelfile import read_card

    card = read_card(model)
    if card is None:
        from segedge.convert.export import export
        from segedge.convert.options import ExportOptions

        target = Path(tempfile.mkdtemp(prefix="segedge-")) / model.name
        export(model, target, options=ExportOptions(classes=_classes_of(model)))
        model = target
        card = read_card(model)
    assert card is not None
    return model, card


def _classes_of(model: Path) -> str:
    return "camvid" if "camvid" in model.name else "cityscapes"


def frame_of(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise, H x W x 3: large regions of every brightness."""
    import cv2

    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 10, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
