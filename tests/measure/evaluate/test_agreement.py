"""Agreement of two models: hand-worked cases, the reference's ties, findings, the command."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cli.verbs.compare import parse_model
from segedge.errors import UsageError
from segedge.measure.datasets.datasets import open_dataset
from segedge.measure.evaluate.agreement import Pair, compare
from segedge.measure.evaluate.difference import draw_pair
from segedge.measure.evaluate.evaluate import evaluate
from segedge.reference import frame as reference
from segedge.segment.load import load
from tests.small_model import run_verb

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: segedge[cpu]")

CARD = ModelCard(("sky", "road", "car"), ((0, 0, 255), (9, 9, 9), (255, 0, 0)), 2, 2)


@dataclass
class Said:
    labels: Any
    margin: Any
    logits: Any


@dataclass
class Fixed:
    """Gives the logits it was made with, at the image's size."""

    logits: Any
    card: ModelCard = CARD

    def __call__(self, image: Any) -> Said:
        planes = np.nan_to_num(np.asarray(self.logits, np.float32)[0], nan=-1e30)
        top = np.sort(planes, axis=0)
        return Said(planes.argmax(0).astype(np.uint8), top[-1] - top[-2], self.logits)


def logits(*pixels: tuple[float, float, float]) -> Any:
    return np.array(pixels, np.float32).T.reshape(1, 3, 2, 2)


IMAGE = np.zeros((2, 2, 3), np.uint8)
CLEAR = logits((9, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9))


def test_counts_by_hand() -> None:
    other = logits((9, 0, 0), (0, 9, 0), (0, 9, 0), (0, 0, 7))
    found = compare(Fixed(CLEAR), Fixed(other), [("a", IMAGE)])
    assert found.agreement == 0.75
    assert found.ambiguous == 0.0
    assert found.max_logit_error == 9.0
    assert found.class_agreement == {"sky": 0.5, "road": 0.5, "car": 1.0}
    assert found.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert not found.findings


def test_ties_of_the_first_are_left_out() -> None:
    tied = logits((9, 9 - 1e-4, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9))
    found = compare(
        Fixed(tied), Fixed(logits((0, 9, 0), *CLEAR[0].reshape(3, 4).T[1:])), [("a", IMAGE)]
    )
    assert (found.agreement, found.ambiguous) == (1.0, 0.25)


def test_the_worst_image_and_a_class_that_nobody_gives() -> None:
    only = logits(*[(9, 0, 0)] * 3, (0, 9, 0))
    first = Fixed(only)
    second = iter((only, logits(*[(9, 0, 0)] * 2, *[(0, 9, 0)] * 2)))
    found = compare(first, Turns(second), [("a", IMAGE), ("b", IMAGE)])
    assert found.worst.name == "b"
    assert found.class_agreement["car"] is None


class Turns:
    card = CARD

    def __init__(self, turns: Any) -> None:
        self._turns = turns

    def __call__(self, image: Any) -> Said:
        return Fixed(next(self._turns))(image)


def test_findings_name_what_is_sick() -> None:
    nan = CLEAR.copy()
    nan[0, :, 0, 0] = np.nan
    found = compare(Fixed(CLEAR), Fixed(nan), [("a", IMAGE)])
    assert "the second gives NaN or inf on 1 of 1 images, first a" in found.findings
    one = compare(Fixed(CLEAR), Fixed(logits(*[(0, 5, 1)] * 4)), [("a", IMAGE)])
    assert "the second gives one class everywhere: road" in one.findings


def test_clipped_logits_are_found() -> None:
    rng = np.random.default_rng(0)
    smooth = rng.normal(0, 1, (1, 3, 64, 64)).astype(np.float32)
    image = np.zeros((64, 64, 3), np.uint8)
    found = compare(Fixed(smooth), Fixed(np.clip(smooth, -1, 1)), [("a", image)])
    assert len(found.findings) == 1
    assert "the second is saturated on 1 of 1 images" in found.findings[0]


def test_other_classes_and_no_images_are_refused() -> None:
    other = CARD.replace(classes=("sky", "road", "bus"))
    with pytest.raises(UsageError, match="different classes"):
        compare(Fixed(CLEAR), Fixed(CLEAR, other), [("a", IMAGE)])
    with pytest.raises(UsageError, match="no image"):
        compare(Fixed(CLEAR), Fixed(CLEAR), [])


def test_the_picture_shows_what_differs() -> None:
    other = logits((9, 0, 0), (0, 9, 0), (0, 9, 0), (0, 0, 9))
    pairs: list[Pair] = []
    compare(Fixed(CLEAR), Fixed(other), [("a", IMAGE)], each=pairs.append)
    picture = draw_pair(pairs[0], CARD.palette_rgb)
    assert picture.shape == (2, 3 * 2 + 2 * 4, 3)
    assert picture[0, -1].tolist() == [255, 0, 255]
    assert picture[0, -2].tolist() == [0, 0, 0]


def model(path: Path, scale: float = 1.0) -> Path:
    """A 1x1 convolution with a card, ``path``."""
    weight = np.random.default_rng(3).normal(0, 1, (3, 3, 1, 1)).astype(np.float32) * scale
    text = "g (float[1,3,16,32] image) => (float[1,3,16,32] logits) { logits = Conv (image, w) }"
    made = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {text}')
    made.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    card = CARD.replace(input_height=16, input_width=32)
    helper.set_model_props(made, card.to_metadata())
    onnx.save(made, path)
    return path


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), noise)
    return folder


def test_ties_are_those_of_the_reference(tmp_path: Path) -> None:
    path, folder = model(tmp_path / "a.onnx"), pictures(tmp_path / "images")
    image = cv2.imread(str(folder / "0.png"))
    with load(path, backend="onnxruntime") as segmenter:
        found = compare(segmenter, segmenter, [("0", image)])
        geometry = Geometry.fit(Size(20, 30), Size(16, 32), "stretch")
        truth = reference.ambiguous(segmenter(image).logits, segmenter.card, geometry)
    assert found.agreement == 1.0
    assert found.images[0].ambiguous == np.count_nonzero(truth)


def test_the_command(tmp_path: Path) -> None:
    a, b = model(tmp_path / "a.onnx"), model(tmp_path / "b.onnx", scale=-1.0)
    folder, out = pictures(tmp_path / "images"), tmp_path / "diff.png"
    words = ["compare", f"{a}@onnxruntime", f"{b}@onnxruntime", "--images", folder]
    text = run_verb(*words, "-o", out).stdout
    assert "images      3" in text
    assert "next        segedge run" in text
    assert cv2.imread(str(out)).shape == (20, 3 * 30 + 8, 3)
    data = json.loads(run_verb(*words, "--json").stdout)
    assert data["agreement"] < 0.5
    assert len(data["per_image"]) == 3


def test_a_folder_gets_a_picture_of_every_image(tmp_path: Path) -> None:
    a, b = model(tmp_path / "a.onnx"), model(tmp_path / "b.onnx", scale=-1.0)
    folder, out = pictures(tmp_path / "images"), tmp_path / "diffs"
    words = ["compare", f"{a}@onnxruntime", f"{b}@onnxruntime", "--images", folder]
    text = run_verb(*words, "-o", f"{out}/", "--worst", 2, "--slide", "auto").stdout
    assert f"{out}/  3 pictures" in text
    assert text.count("worst  ") == 2
    assert sorted(p.name for p in out.iterdir()) == ["0000-0.png", "0001-1.png", "0002-2.png"]
    assert cv2.imread(str(out / "0001-1.png")).shape == (20, 3 * 30 + 8, 3)


def labelled(folder: Path, a: Path) -> Path:
    """Pictures whose labels are what the model says, but for the last, half of it."""
    folder.mkdir()
    pictures(folder / "images")
    (folder / "labels").mkdir()
    with load(a, backend="onnxruntime") as segmenter:
        for path in sorted((folder / "images").iterdir()):
            labels = segmenter(cv2.imread(str(path))).labels.copy()
            labels[0] = 255
            if path.stem == "2":
                labels[:, :15] = (labels[:, :15] + 1) % 3
            cv2.imwrite(str(folder / "labels" / path.name), labels)
    return folder


def test_on_labels_both_have_scores(tmp_path: Path) -> None:
    a, b = model(tmp_path / "a.onnx"), model(tmp_path / "b.onnx", scale=-1.0)
    folder = labelled(tmp_path / "set", a)
    words = ["compare", f"{a}@onnxruntime", f"{b}@onnxruntime", "--dataset", folder]
    data = json.loads(run_verb(*words, "--json").stdout)
    for who, path in (("first", a), ("second", b)):
        with load(path, backend="onnxruntime") as segmenter:
            own = evaluate(segmenter, open_dataset(folder, card_classes=CARD.classes))
        assert data[f"{who}_scores"]["miou"] == own.miou
        assert data[f"{who}_scores"]["iou"] == own.iou
        assert [image[who] for image in data["image_miou"]] == [i.miou for i in own.images]
    difference = data["second_scores"]["miou"] - data["first_scores"]["miou"]
    assert data["miou_difference"] == pytest.approx(difference)
    assert data["agreement"] < 0.5
    (folder / "labels/0.png").unlink()
    (folder / "images/1.png").write_bytes(b"none")
    text = run_verb(*words, code=1).stdout
    assert "images      1" in text
    assert "lost  " in text
    assert "unreadable  images/1.png" in text
    assert "1 images are not counted: images/0.png" in text
    assert re.search(r"^sky .*[-+]\d+\.\d\d$", text, re.M)
    assert max(map(len, text.splitlines())) <= 100 + len(str(tmp_path)) + 40


def test_without_images_it_says_what_was_used(tmp_path: Path) -> None:
    a = f"{model(tmp_path / 'a.onnx')}@onnxruntime"
    assert "smooth noise: a weak test" in run_verb("compare", a, a).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "EMPTY"], "no images at"),
        (["-o", "x.jpg"], "is no .png file"),
        (["-o", "missing/x.png"], "cannot be written"),
        (["--limit", "0"], "--limit must be positive"),
        (["--images", "x", "--dataset", "y"], "both say what to look at"),
        (["--dataset", "absent"], "no data set at"),
        (["--overlap", "0.5"], "--overlap is for --slide"),
    ],
)
def test_bad_input(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    a = model(tmp_path / "a.onnx")
    words = [str(tmp_path / "empty") if word == "EMPTY" else word for word in words]
    assert said in run_verb("compare", a, a, *words, code=2).stderr


def test_model_and_backend_in_one_word(tmp_path: Path) -> None:
    assert parse_model("m.onnx@openvino:f32") == (Path("m.onnx"), "openvino:f32")
    assert parse_model("m.onnx") == (Path("m.onnx"), "auto")
    odd = model(tmp_path / "a@b.onnx")
    assert parse_model(str(odd)) == (odd, "auto")
