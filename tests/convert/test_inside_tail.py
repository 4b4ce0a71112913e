"""The tail put back into the graph gives the labels that our tail gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segedge.backends.registry import open_backend
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.modelfile import read_metadata
from segedge.convert.passes.put_tail_back import with_tail
from segedge.errors import BackendError
from segedge.reference import frame as reference

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
GRID = (6, 8)


def write(path: Path, card: ModelCard, *, opset: int, dynamic: bool = False) -> Path:
    """Logits are strided slices of the image, so that every test sets them as it likes."""
    from onnx import TensorProto, helper

    channels, stride = card.channels, card.stride
    rows = ["n", 3, "h", "w"] if dynamic else [1, 3, GRID[0] * stride, GRID[1] * stride]
    out = ["n", channels, "a", "b"] if dynamic else [1, channels, *GRID]
    ints = {"starts": [0, 0, 0], "ends": [channels, 1 << 30, 1 << 30], "axes": [1, 2, 3]}
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [3], values)
        for name, values in {**ints, "steps": [1, stride, stride]}.items()
    ]
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, rows)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, out)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(model, card.to_metadata())
    onnx.save(model, path)
    return path


def a_card(*, sigmoid: bool = False, **changes: object) -> ModelCard:
    classes = ("off", "on") if sigmoid else ("a", "b", "c")
    palette = tuple((k, k, k) for k in range(len(classes)))
    return ModelCard(
        classes, palette, GRID[0] * 4, GRID[1] * 4, stride=4,
        activation="sigmoid" if sigmoid else "softmax", **changes,
    )  # fmt: skip


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_labels_are_those_of_the_reference(
    tmp_path: Path, opset: int, align_corners: bool, sigmoid: bool
) -> None:
    card = a_card(sigmoid=sigmoid, align_corners=align_corners)
    model = write(tmp_path / "m.onnx", card, opset=opset)
    inside = with_tail(model, tmp_path / "t.onnx")
    assert inside == ModelCard.from_metadata(read_metadata(tmp_path / "t.onnx"))
    assert (inside.head, inside.stride) == ("labels", 1)
    size = Size(card.input_height, card.input_width)
    tensor = np.random.default_rng(3).standard_normal((1, 3, *GRID)).astype(np.float32)
    tensor = tensor.repeat(4, axis=2).repeat(4, axis=3)
    logits = tensor[:, : card.channels, ::4, ::4]
    backend = open_backend(tmp_path / "t.onnx", "onnxruntime", threads=1).backend
    (labels,) = backend.run([tensor])
    assert labels.dtype == np.uint8
    geometry = Geometry.fit(size, size, "stretch")
    expected = reference.labels(logits, card, geometry)
    clear = ~reference.ambiguous(logits, card, geometry)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(labels.reshape(expected.shape)[clear], expected[clear])


def test_open_axes_stay_open(tmp_path: Path) -> None:
    card = a_card(dynamic=("batch", "size"))
    with_tail(write(tmp_path / "m.onnx", card, opset=20, dynamic=True), tmp_path / "t.onnx")
    backend = open_backend(tmp_path / "t.onnx", "onnxruntime", threads=1).backend
    (labels,) = backend.run([np.zeros((2, 3, 16, 24), np.float32)])
    assert labels.shape == (2, 16, 24)


def test_what_has_no_tail_to_put_in(tmp_path: Path) -> None:
    card = a_card(head="labels")
    with pytest.raises(BackendError, match="no tail") as caught:
        with_tail(write(tmp_path / "m.onnx", card, opset=20), tmp_path / "t.onnx")
    assert "head labels" in caught.value.facts["found"]
    card = a_card(dynamic=("batch",))
    model = write(tmp_path / "n.onnx", card, opset=17, dynamic=True)
    with pytest.raises(BackendError, match="opset 18"):
        with_tail(model, tmp_path / "t.onnx")
