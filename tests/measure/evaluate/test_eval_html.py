"""The page of an evaluation: what it says is what was counted, and it needs nothing else."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.measure.datasets.datasets import open_dataset
from segedge.measure.datasets.mapping import IGNORED
from segedge.measure.evaluate.confusion import Confusion
from segedge.measure.evaluate.evaluate import evaluate
from segedge.measure.evaluate.html import html
from segedge.measure.evaluate.shots import error_picture, take_shots
from segedge.options.cleaning import Cleaning
from segedge.options.frame import FrameOptions
from segedge.options.sliding import Slide
from segedge.options.smoothing import Smoothing
from segedge.segment.segmenter import Segmenter
from tests.small_model import run_verb, write_model

CARD = ModelCard(("dark", "bright", "none"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)), 48, 64)


def write_data(folder: Path, classes: tuple[str, ...] = CARD.classes) -> Path:
    """Four images, dark to the left; the labels of the third are wrong, a column is ignored."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(4):
        truth = np.zeros((48, 64), np.uint8)
        truth[:, 32:] = 1
        image = cv2.cvtColor(truth * 255, cv2.COLOR_GRAY2BGR)
        labels = 1 - truth if number == 2 else truth
        labels[:, 0] = 255
        cv2.imwrite(str(folder / f"images/{number}.png"), image)
        cv2.imwrite(str(folder / f"labels/{number}.png"), labels)
    (folder / "classes.txt").write_text("\n".join(classes), encoding="utf-8")
    return folder


def two_classes(tensor: np.ndarray) -> np.ndarray:
    bright = tensor[:, :1]
    return np.concatenate([-bright, bright, np.full_like(bright, -9)], axis=1)


def test_the_page_says_what_was_counted(tmp_path: Path) -> None:
    data = open_dataset(write_data(tmp_path / "set"), card_classes=CARD.classes)
    slide, cleaning = Slide(overlap=0.5), Cleaning(min_region=4, fill_holes=9)
    backend = FakeBackend(CARD, network=two_classes)
    with Segmenter(
        CARD, backend, options=FrameOptions(slide=slide, cleaning=cleaning)
    ) as segmenter:
        found = evaluate(segmenter, data)
        shots = take_shots(segmenter, data, found.worst(2))
    assert found.cleaning == "fill holes 9, min region 4"
    assert found.slide == "windows of 48x64, 24x32 apart, logits averaged"
    assert found.to_dict()["slide"] == found.slide
    page = html(found, shots, model="<m>.onnx", sha256="ab" * 32, palette_rgb=CARD.palette_rgb)
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "Scores", "Classes", "Confusion", "Images", "Worst images", "What was measured"
    ]  # fmt: skip
    assert "&lt;m&gt;.onnx on set" in page
    assert not re.search(r"https?:|<script|<m>|src=\"(?!data:)", page)
    assert f"{100 * found.miou:.2f} mIoU" in page
    assert "75.00 % of the pixels right on 4 images" in page
    assert shots[0].score.name == "images/2.png"
    assert {pair[:2] for pair in shots[0].mistakes} == {("dark", "bright"), ("bright", "dark")}
    assert sum(share for *_, share in shots[0].mistakes) == pytest.approx(1.0)
    assert shots[1].mistakes == ()
    files = [base64.b64decode(t) for t in re.findall(r"base64,([A-Za-z0-9+/=]+)", page)]
    assert len(files) == 8
    truth = cv2.imdecode(np.frombuffer(files[1], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert [tuple(truth[9, x]) for x in (0, 1, 63)] == [(0, 0, 0), (255, 0, 0), (0, 0, 0)]
    errors = cv2.imdecode(np.frombuffer(files[3], np.uint8), cv2.IMREAD_COLOR)
    assert errors[20, 20].tolist() == pytest.approx([255, 0, 255], abs=12)


def test_images_of_a_data_set_are_no_video(tmp_path: Path) -> None:
    """A segmenter that smooths over time would drag each image's labels into the next."""
    folder = write_data(tmp_path / "set")
    for number in range(4):  # in turn a little darker and a little brighter
        image = np.full((48, 64, 3), 156 if number % 2 else 100, np.uint8)
        cv2.imwrite(str(folder / f"images/{number}.png"), image)
    data = open_dataset(folder, card_classes=CARD.classes)
    scores = []
    for smoothing in (None, Smoothing(strength=0.95, tolerance=255.0)):
        backend = FakeBackend(CARD, network=two_classes)
        with Segmenter(CARD, backend, options=FrameOptions(smoothing=smoothing)) as segmenter:
            scores.append([image.miou for image in evaluate(segmenter, data).images])
    assert scores[0] == scores[1]


def test_few_images_missing_labels_and_no_boundary(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "set")
    (folder / "labels/0.png").unlink()
    (folder / "images/1.png").write_bytes(b"none")
    data = open_dataset(folder, card_classes=CARD.classes)
    with Segmenter(CARD, FakeBackend(CARD, network=two_classes)) as segmenter:
        found = evaluate(segmenter, data, boundary=False)
    page = html(found, (), model="m", sha256="", palette_rgb=CARD.palette_rgb)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == ["Scores", "Not counted", "Classes", "Confusion", "What was measured"]
    assert "1 images without labels: images/0.png" in page
    assert "images/1.png: " in page
    assert "boundary" not in page


def test_many_classes_have_a_table_and_no_matrix(tmp_path: Path) -> None:
    names = tuple(f"class {n}" for n in range(60))
    card = ModelCard(names, tuple((n, n, n) for n in range(60)), 16, 64)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    labels = np.tile(np.arange(60, dtype=np.uint8), (16, 1))
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((16, 60, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "labels/a.png"), labels)
    with Segmenter(card, FakeBackend(card)) as segmenter:
        found = evaluate(segmenter, open_dataset(tmp_path, card_classes=names))
    page = html(found, (), model="m", sha256="", palette_rgb=card.palette_rgb)
    assert "A matrix of 60 classes" in page
    assert 'class="matrix"' not in page
    assert "The 40 worst classes" in page


def test_mistakes_and_their_picture() -> None:
    confusion = Confusion(("a", "b"))
    confusion.add(np.array([0, 0, 0, 1, 1]), np.array([1, 1, 0, 1, 0]))
    assert confusion.mistakes(9) == [("a", "b", 2), ("b", "a", 1)]
    assert confusion.mistakes(1) == [("a", "b", 2)]
    image = np.full((1, 3, 3), 200, np.uint8)
    made = error_picture(image, np.array([[0, 1, IGNORED]]), np.array([[0, 0, 0]]))
    assert made.tolist() == [[[110] * 3, [255, 0, 255], [40] * 3]]


def test_as_a_user_types_it(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = write_model(tmp_path / "m.onnx", has_card=True)
    data = write_data(tmp_path / "set", ("dark", "bright"))
    out = tmp_path / "page.html"
    done = run_verb(
        "eval", model, data, "--backend", "onnxruntime", "--html", out, "--worst", 1,
        "--slide", "auto", "--majority", 3, "--min-region", "dark=9",
    )  # fmt: skip
    page = out.read_text(encoding="utf-8")
    assert page.count("<img") == 4
    assert "cleaning    majority 3, min region dark=9" in done.stdout
    assert "slide       windows of 48x64" in done.stdout
    assert done.stdout.count("worst  ") == 1
    assert str(tmp_path) not in page
    for words, message in [
        (("--html", tmp_path / "a.pdf"), "is no .html file"),
        (("--html", tmp_path / "no" / "a.html"), "no folder"),
        (("--html", "."), "a folder"),
        (("--out", tmp_path), "a folder"),
        (("--min-region", "drak=9"), "did you mean 'dark'"),
        (("--majority", "4"), "odd side"),
    ]:
        assert message in run_verb("eval", model, data, *words, code=2).stderr
