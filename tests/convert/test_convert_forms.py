"""Forms of other people's ONNX files: taken where the labels stay those of the original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

import segedge
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.convert import ExportOptions, ExportReport, adopt
from segedge.convert.noise import smooth_noise
from segedge.convert.passes.usual_output import output_form
from segedge.errors import ExportError, UsageError

SIZE = Size(32, 64)
MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
Feed = Callable[[np.ndarray], np.ndarray]
Read = Callable[[list[np.ndarray]], np.ndarray]

LOGITS = """
    w = Constant <value = float[3, 3, 1, 1] {1, -0.5, 0, 0, 1, -0.5, -0.5, 0, 1}> ()
    p = AveragePool <kernel_shape = [8, 8], strides = [8, 8]> (f)
    c = Conv (p, w)
    ten = Constant <value = float[1] {10}> ()
    l = Mul (c, ten)
"""
UP = """
    s = Constant <value = float[4] {1, 1, 8, 8}> ()
    u = Resize <mode = "linear"> (l, , s)
"""
ONE = """
    k = Constant <value = float[1, 3, 1, 1] {1, -1, 0.5}> ()
    one = Conv (l, k)
    s = Constant <value = float[4] {1, 1, 8, 8}> ()
    u = Resize <mode = "linear"> (one, , s)
    g = Sigmoid (u)
"""
GREY_STEM = """
    k1 = Constant <value = float[3, 1, 1, 1] {4, -4, 2}> ()
    b1 = Constant <value = float[3] {-2, 2, -1}> ()
    f = Conv (x, k1, b1)
"""


def rgb(image: np.ndarray) -> np.ndarray:
    """1 x 3 x H x W float32 as most networks want it."""
    tensor = (image[..., ::-1] / 255.0 - MEAN) / STD
    return tensor.transpose(2, 0, 1)[None].astype(np.float32)


def grey(image: np.ndarray) -> np.ndarray:
    """1 x 1 x H x W in 0..1; not rounded, as preprocessing never is."""
    return (image[..., ::-1] @ (0.299, 0.587, 0.114) / 255.0)[None, None].astype(np.float32)


def grey_bytes(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[None, ..., None]


def best(axis: int) -> Read:
    """The class of the largest logit, over an axis of the first output."""
    return lambda outputs: outputs[0].argmax(axis).reshape(SIZE.height, SIZE.width)


def mask(outputs: list[np.ndarray]) -> np.ndarray:
    return np.asarray(outputs[0] > 0).reshape(SIZE.height, SIZE.width)


def as_is(outputs: list[np.ndarray]) -> np.ndarray:
    return outputs[0].reshape(SIZE.height, SIZE.width)


IN, UINT8 = "float[1, 3, 32, 64] f", "uint8[1, 32, 64, 3] x"
SQUEEZED = "ax = Constant <value = int64[1] {0}> ()\n y = Squeeze (u, ax)"
FLAT = "sh = Constant <value = int64[3] {1, -1, 3}> ()\n y = Reshape (t, sh)"
LAST = "t = Transpose <perm = [0, 2, 3, 1]> (u)\n"
FORMS: dict[str, tuple[str, str, str, Feed, Read]] = {
    "float16": (
        "float16[1, 3, 32, 64] x",
        "float16[1, 3, 32, 64] y",
        "f = Cast <to = 1> (x)\n" + LOGITS + UP + "y = Cast <to = 10> (u)",
        lambda image: rgb(image).astype(np.float16),
        best(1),
    ),
    "float64": (
        "double[1, 3, 32, 64] x",
        "float[1, 3, 32, 64] y",
        "f = Cast <to = 1> (x)\n" + LOGITS + UP + "y = Identity (u)",
        lambda image: rgb(image).astype(np.float64),
        best(1),
    ),
    "uint8 in NHWC": (
        UINT8,
        "float[1, 3, 32, 64] y",
        "t = Transpose <perm = [0, 3, 1, 2]> (x)\n g = Cast <to = 1> (t)\n"
        "m = Constant <value = float {128}> ()\n d = Sub (g, m)\n"
        "h = Constant <value = float {64}> ()\n f = Div (d, h)\n" + LOGITS + UP + "y = Identity(u)",
        lambda image: image[None, ..., ::-1],
        best(1),
    ),
    "uint8 read as codes": (
        UINT8,
        "float[1, 3, 32, 64] y",
        "q = Constant <value = float {0.0078125}> ()\n z = Constant <value = uint8 {128}> ()\n"
        "g = DequantizeLinear (x, q, z)\n f = Transpose <perm = [0, 3, 1, 2]> (g)\n"
        + LOGITS + UP + "y = Identity(u)",
        lambda image: image[None, ..., ::-1],
        best(1),
    ),
    "grey": (
        "float[1, 1, 32, 64] x",
        "float[1, 3, 32, 64] y",
        GREY_STEM + LOGITS + UP + "y = Identity(u)",
        grey,
        best(1),
    ),
    "grey, not read by a convolution": (
        "float[1, 1, 32, 64] x",
        "float[1, 3, 32, 64] y",
        "e = Constant <value = int64[4] {1, 3, 32, 64}> ()\n"
        "k1 = Constant <value = float[1, 3, 1, 1] {4, -4, 2}> ()\n"
        "b1 = Constant <value = float[1, 3, 1, 1] {-2, 2, -1}> ()\n"
        "x3 = Expand (x, e)\n m = Mul (x3, k1)\n f = Add (m, b1)\n"
        + LOGITS + UP + "y = Identity(u)",
        grey,
        best(1),
    ),
    "grey bytes in NHWC": (
        "uint8[1, 32, 64, 1] b",
        "float[1, 3, 32, 64] y",
        "h = Constant <value = float {255}> ()\n t = Transpose <perm = [0, 3, 1, 2]> (b)\n"
        "g = Cast <to = 1> (t)\n x = Div (g, h)\n" + GREY_STEM + LOGITS + UP + "y = Identity(u)",
        grey_bytes,
        best(1),
    ),
    "no batch axis": (IN, "float[3, 32, 64] y", LOGITS + UP + SQUEEZED, rgb, best(0)),
    "no batch axis, classes last": (
        IN,
        "float[32, 64, 3] y",
        LOGITS + UP + LAST + "ax = Constant <value = int64[1] {0}> ()\n y = Squeeze (t, ax)",
        rgb,
        best(2),
    ),
    "flattened": (IN, "float[1, 2048, 3] y", LOGITS + UP + LAST + FLAT, rgb, best(2)),
    "flattened, softmax": (
        IN,
        "float[1, 2048, 3] y",
        LOGITS + UP + LAST + FLAT.replace("y =", "r =") + "\n y = Softmax <axis = -1> (r)",
        rgb,
        best(2),
    ),
    "flattened, classes first": (
        IN,
        "float[1, 3, 2048] y",
        LOGITS + UP + "sh = Constant <value = int64[3] {1, 3, -1}> ()\n y = Reshape (u, sh)",
        rgb,
        best(1),
    ),
    "labels of two axes": (
        IN,
        "int64[32, 64] y",
        LOGITS + UP + SQUEEZED.replace("y =", "q =") + "\n y = ArgMax <axis = 0, keepdims = 0> (q)",
        rgb,
        as_is,
    ),
    "a fixed batch": (
        "float[4, 3, 32, 64] f",
        "float[4, 3, 2048] y",
        LOGITS + UP + "sh = Constant <value = int64[3] {4, 3, 2048}> ()\n y = Reshape (u, sh)",
        lambda image: np.repeat(rgb(image), 4, axis=0),
        lambda outputs: outputs[0][0].argmax(0).reshape(32, 64),
    ),
    "labels and logits": (
        IN,
        "int64[1, 32, 64] map, float[1, 3, 32, 64] scores",
        LOGITS + UP + "scores = Identity (u)\n map = ArgMax <axis = 1, keepdims = 0> (u)",
        rgb,
        as_is,
    ),
    "a threshold of 0.3": (
        IN,
        "bool[1, 1, 32, 64] y",
        LOGITS + ONE + "th = Constant <value = float {0.3}> ()\n y = Greater (g, th)",
        rgb,
        mask,
    ),
    "0 and 255": (
        IN,
        "uint8[1, 32, 64] y",
        LOGITS + ONE + "th = Constant <value = float {0.5}> ()\n b = Greater (g, th)\n"
        "ax = Constant <value = int64[1] {1}> ()\n q = Squeeze (b, ax)\n n = Cast <to = 1> (q)\n"
        "top = Constant <value = float {255}> ()\n m = Mul (top, n)\n y = Cast <to = 2> (m)",
        rgb,
        mask,
    ),
    "rounded": (IN, "float[1, 1, 32, 64] y", LOGITS + ONE + "y = Round (g)", rgb, mask),
    "where less": (
        IN,
        "float[1, 1, 32, 64] y",
        LOGITS + ONE + "th = Constant <value = float {0.6}> ()\n b = Less (g, th)\n"
        "o = Constant <value = float {1}> ()\n z = Constant <value = float {0}> ()\n"
        "y = Where (b, z, o)",
        rgb,
        mask,
    ),
    "what lies below": (
        IN,
        "bool[1, 1, 32, 64] y",
        LOGITS + ONE + "th = Constant <value = float {0.5}> ()\n b = Greater (g, th)\n y = Not (b)",
        rgb,
        mask,
    ),
    "less": (
        IN,
        "bool[1, 1, 32, 64] y",
        LOGITS + ONE + "th = Constant <value = float {0.4}> ()\n y = Less (g, th)",
        rgb,
        mask,
    ),
}  # fmt: skip


def made(path: Path, inputs: str, outputs: str, body: str) -> Path:
    text = f'<ir_version: 10, opset_import: ["" : 20]>\nnet ({inputs}) => ({outputs}) {{{body}}}'
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return path


def adopted(tmp_path: Path, inputs: str, outputs: str, body: str, **options: Any) -> ExportReport:
    path = made(tmp_path / "theirs.onnx", inputs, outputs, body)
    return adopt(path, tmp_path / "ours.onnx", options=ExportOptions(**options))


@pytest.mark.parametrize("name", FORMS)
def test_labels_stay_those_of_the_original_on_every_backend(tmp_path: Path, name: str) -> None:
    *net, feed, read = FORMS[name]
    report = adopted(tmp_path, *net)
    card, image = report.card, next(smooth_noise(SIZE, 1))
    assert card.head == "logits", "whatever it gives, its logits were found"
    assert report.input_shape == card.input_shape(), "one colour image, for every twin and backend"
    theirs = onnxruntime.InferenceSession(tmp_path / "theirs.onnx")
    wanted = read(theirs.run(None, {theirs.get_inputs()[0].name: feed(image)}))
    assert len(np.unique(wanted)) > 1, "a constant answer proves nothing"
    for backend in ("onnxruntime", "openvino:f32"):
        pytest.importorskip(backend.partition(":")[0])
        with segedge.load(report.path, backend=backend) as segmenter:
            share = np.mean(segmenter(image).labels == wanted)
        assert share >= (0.995 if "16" in name or "bytes" in name else 0.9985), backend


def test_a_grey_picture_is_the_same_in_three_channels(tmp_path: Path) -> None:
    *net, _, read = FORMS["grey"]
    report = adopted(tmp_path, *net)
    assert "makes grey of it" in report.notes[0]
    assert [node.op_type for node in onnx.load(report.path).graph.node].count("Conv") == 2
    plain = cv2.cvtColor(next(smooth_noise(SIZE, 1)), cv2.COLOR_BGR2GRAY)
    theirs = onnxruntime.InferenceSession(tmp_path / "theirs.onnx")
    wanted = read(theirs.run(None, {"x": (plain / 255.0)[None, None].astype(np.float32)}))
    with segedge.load(report.path, backend="onnxruntime") as segmenter:
        found = segmenter(cv2.cvtColor(plain, cv2.COLOR_GRAY2BGR)).labels
    assert np.mean(found == wanted) > 0.9985


@pytest.mark.parametrize("name", ["0 and 255", "what lies below", "less", "labels of two axes"])
def test_with_the_tail_kept(tmp_path: Path, name: str) -> None:
    *net, feed, read = FORMS[name]
    classes = ("a", "b", "c") if "axes" in name else None
    report = adopted(tmp_path, *net, keep_tail=True, classes=classes)
    assert report.card.head == "labels"
    image = next(smooth_noise(SIZE, 1))
    theirs = onnxruntime.InferenceSession(tmp_path / "theirs.onnx")
    wanted = read(theirs.run(None, {theirs.get_inputs()[0].name: feed(image)}))
    with segedge.load(report.path, backend="onnxruntime") as segmenter:
        assert np.mean(segmenter(image).labels == wanted) > 0.9985


def test_what_an_input_settles_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes uint8 and normalises it itself"):
        adopted(tmp_path, *FORMS["uint8 in NHWC"][:3], mean=(0.5,) * 3)
    with pytest.raises(UsageError, match="takes grey: it has one mean"):
        adopted(tmp_path, *FORMS["grey"][:3], mean=(0.5, 0.4, 0.3))
    card = adopted(tmp_path, *FORMS["grey"][:3], mean=(0.5,) * 3, std=(0.25,) * 3).card
    assert (card.mean, card.color) == ((0.5,) * 3, "rgb")


def test_a_batch_that_the_graph_needs_is_refused(tmp_path: Path) -> None:
    body = "b = Constant <value = float[4, 3, 1, 1] {" + ", ".join("123412341234") + "}> ()\n"
    net = ("float[4, 3, 32, 64] x", "float[4, 3, 32, 64] y", body + "y = Mul (x, b)")
    with pytest.raises(ExportError) as caught:
        adopted(tmp_path, *net)
    assert "fixed batch of 4, and does not run with 1" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "is_float", "usual"),
    [
        ((1, 19, 64, 128), True, None),
        ((1, 64, 128), True, None),
        ((19, 64, 128), True, (1, 19, 64, 128)),
        ((64, 128, 19), True, (1, 19, 64, 128)),
        ((1, 8192, 19), True, (1, 19, 64, 128)),
        ((19, 512 * 1024), True, (1, 19, 512, 1024)),
        ((512, 1024), True, (1, 1, 512, 1024)),
        ((512, 1024), False, (1, 512, 1024)),
        ((1, 8192), False, (1, 64, 128)),
        ((1, 1000), True, None),
        ((1, 2), True, None),
        ((1, 8191, 19), True, None),
        ((1, 8192, 128), True, None),
        ((), True, None),
    ],
)
def test_which_outputs_are_known(
    shape: tuple[int, ...], is_float: bool, usual: tuple[int, ...] | None
) -> None:
    """Where both axes could be the places, and where none can be, nothing is guessed."""
    form = output_form(shape, is_float=is_float, network=Size(512, 1024))
    assert (form and form.usual) == usual
    if form is not None:
        numbers = np.arange(np.prod(shape)).reshape(shape)
        assert form(numbers).shape == usual


def test_named_classes_tell_two_axes_apart() -> None:
    form = output_form((1, 8192, 128), is_float=True, network=Size(512, 1024), channels=128)
    assert form is not None
    assert form.usual == (1, 128, 64, 128)


def test_the_card_is_a_usual_one(tmp_path: Path) -> None:
    card = adopted(tmp_path, *FORMS["uint8 in NHWC"][:3]).card
    assert isinstance(card, ModelCard)
    assert (card.mean, card.std, card.input_layout) == ((0.0,) * 3, (1 / 255,) * 3, "nhwc")
