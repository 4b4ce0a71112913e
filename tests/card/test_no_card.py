"""The hint for a file without a card names classes that its outputs have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from segedge.card.modelfile import no_card_error, output_channels
from tests.small_model import run_verb

Axes = Sequence[int | str | None]
PICTURE: Axes = (1, 3, 64, 96)
UNCLEAR = "names.txt -o m-card.onnx   (names.txt: a class a line)"


def write(
    path: Path, *outputs: Axes, picture: Axes = PICTURE, kind: int = TensorProto.FLOAT
) -> Path:
    """A file whose outputs have these shapes, with weights before and after them."""
    info, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    infos = [info(f"y{n}", kind, axes) for n, axes in enumerate(outputs)]
    weights = helper.make_tensor("w", TensorProto.FLOAT, (4, 5, 6, 7), [0.5] * 840)
    nodes = [helper.make_node("Constant", [], [made.name], value=weights) for made in infos]
    graph = helper.make_graph(nodes, "g", [info("x", kind, picture)], infos, [weights])
    onnx.save(helper.make_model(graph), path)
    return path


@pytest.mark.parametrize(
    ("outputs", "classes"),
    [
        ([(1, 19, 8, 12)], "cityscapes -o m-card.onnx"),
        ([("n", 150, "h", "w")], "ade20k -o m-card.onnx"),
        ([(1, 11, 8, 12), (1, 11, 4, 6)], "camvid -o m-card.onnx"),
        ([(1, 7, 8, 12)], "names.txt -o m-card.onnx   (names.txt: 7 lines, a class each)"),
        ([(1, "c", 8, 12)], UNCLEAR),
        ([(1, 1, 8, 12)], UNCLEAR),
        ([(1, 64, 96)], UNCLEAR),
        ([(1, 19, 8, 12), (1, 64, 8, 12)], UNCLEAR),
        ([(1, 100, 20), (1, 100, 16, 24)], UNCLEAR),
    ],
)
def test_the_classes_that_fit(tmp_path: Path, outputs: list[Axes], classes: str) -> None:
    path = write(tmp_path / "m.onnx", *outputs)
    assert no_card_error(path).fix == f"segedge export {path} --classes {classes}"


def test_channels_last_are_the_last_axis(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", (1, 64, 96, 21), picture=(1, 64, 96, 3))
    assert output_channels(path) == 21
    assert "--classes voc " in (no_card_error(path).fix or "")


def test_every_verb_says_it(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", (1, 150, 8, 12))
    wanted = f"segedge export {path} --classes ade20k -o m-card.onnx"
    for words in (
        ("run", path, "test:480p30", "--frames", 1),
        ("bench", path),
        ("triton", path, "-o", tmp_path / "repository"),
    ):
        assert wanted in run_verb(*words, code=2).stderr
    assert wanted in run_verb("inspect", path).stdout
