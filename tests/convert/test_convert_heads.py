"""Every form of output and tail, from module to file, against the module itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from convert_nets import SIZE, LogitsObject, Tail, Tiny, up, up_corners

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.modelfile import read_metadata
from segedge.convert import ExportOptions, ExportReport, export
from segedge.errors import ExportError, SegedgeError, UsageError
from segedge.reference import frame as reference


def exported(tmp_path: Path, tail: Tail, channels: int = 5, **options: Any) -> ExportReport:
    settings = ExportOptions(size=Size(*SIZE), **options)
    return export(Tiny(tail, channels), tmp_path / "m.onnx", options=settings)


def check_labels(report: ExportReport, network: torch.nn.Module, truth: Any) -> None:
    """The file's labels, by reference tail, are the module's own at another, unseen image."""
    card = ModelCard.from_metadata(read_metadata(report.path))
    assert card == report.card
    image = np.random.default_rng(11).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    geometry = Geometry.fit(Size(*SIZE), Size(*SIZE), card.fit)
    tensor = reference.preprocess(image, card, geometry)
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == [card.output]
    output = session.run(None, {"image": tensor})[0]
    with torch.no_grad():
        expected = truth(network(torch.from_numpy(tensor)))
    found = reference.labels(output, card, geometry)
    clear = np.ones(SIZE, bool)
    if card.head == "logits":
        clear = ~reference.ambiguous(output, card, geometry)
    assert clear.mean() > 0.98
    assert np.array_equal(found[clear], expected.numpy().reshape(SIZE)[clear])
    assert len(np.unique(found)) > 1, "a constant answer proves nothing"


def argmax(value: Any) -> torch.Tensor:
    return value.argmax(1)


LOGIT_TAILS: dict[str, tuple[Tail, Any, str]] = {
    "tensor": (up, argmax, "Resize x8 bilinear"),
    "align_corners": (up_corners, argmax, "Resize x8 bilinear, align_corners"),
    "scale_factor": (
        lambda y, _: F.interpolate(y, scale_factor=8, mode="bilinear"),
        argmax,
        "Resize x8 bilinear",
    ),
    "argmax": (lambda y, x: up(y, x).argmax(1), lambda v: v, "Resize x8 bilinear, ArgMax"),
    "softmax, argmax, byte": (
        lambda y, x: up(y, x).softmax(1).argmax(1, keepdim=True).to(torch.uint8),
        lambda v: v,
        "Resize x8 bilinear, Softmax, ArgMax",
    ),
    "log_softmax": (
        lambda y, x: F.log_softmax(up_corners(y, x), 1),
        argmax,
        "Resize x8 bilinear, align_corners, LogSoftmax",
    ),
    "max": (lambda y, x: up(y, x).max(1)[1], lambda v: v, "Resize x8 bilinear, ArgMax"),
    "topk": (lambda y, x: up(y, x).topk(1, 1)[1], lambda v: v, "Resize x8 bilinear, TopK"),
    "nhwc": (
        lambda y, x: up(y, x).permute(0, 2, 3, 1),
        lambda v: v.argmax(3),
        "Resize x8 bilinear, Transpose",
    ),
    "dict": (lambda y, x: {"aux": y, "out": up(y, x)}, lambda v: v["out"].argmax(1), "Resize"),
    "object": (lambda y, x: LogitsObject(up(y, x)), lambda v: v.logits.argmax(1), "Resize"),
    "deep supervision": (
        lambda y, x: (y, up(y, x), y[..., ::2, ::2]),
        lambda v: v[1].argmax(1),
        "Resize",
    ),
}


@pytest.mark.parametrize("name", LOGIT_TAILS)
def test_upsampled_heads_are_cut(tmp_path: Path, name: str) -> None:
    tail, truth, removed = LOGIT_TAILS[name]
    report = exported(tmp_path, tail)
    assert report.tail.cut
    assert ", ".join(report.tail.removed).startswith(removed)
    assert report.output_shape == (1, 5, 8, 12)
    assert (report.card.stride, report.channels) == (8, 5)
    assert report.card.align_corners == ("align_corners" in removed)
    assert report.tail.saved_bytes == 5 * SIZE[0] * SIZE[1] * 4
    assert "Resize" not in {node.op_type for node in onnx.load(report.path).graph.node}
    parity = report.card.parity
    assert parity is not None
    assert parity.agreement == 1.0
    assert parity.ambiguous < 0.02
    assert parity.max_logit_error is None or parity.max_logit_error < 1e-3
    check_labels(report, Tiny(tail).eval(), truth)


def test_one_channel_is_a_class_and_its_background(tmp_path: Path) -> None:
    tail: Tail = lambda y, x: torch.sigmoid(up(y, x))  # noqa: E731
    report = exported(tmp_path, tail, 1, classes=("crack",))
    assert report.card.classes == ("background", "crack")
    assert report.card.activation == "sigmoid"
    assert report.tail.removed == ("Resize x8 bilinear", "Sigmoid")
    check_labels(report, Tiny(tail, 1).eval(), lambda v: (v > 0.5).long())


@pytest.mark.parametrize(
    ("tail", "removed"),
    [
        (lambda y, x: (torch.sigmoid(up(y, x)) > 0.5).float(), "Greater"),
        (lambda y, x: up(y, x) > 0, "Greater"),
        (lambda y, x: up(y, x).squeeze(1), ""),
    ],
    ids=["sigmoid threshold", "logit threshold", "squeezed"],
)
def test_one_channel_thresholds(tmp_path: Path, tail: Tail, removed: str) -> None:
    report = exported(tmp_path, tail, 1)
    assert report.tail.cut
    assert report.card.classes == ("background", "foreground")
    truth = (lambda v: v.long()) if removed else (lambda v: (v > 0).long())
    check_labels(report, Tiny(tail, 1).eval(), truth)


def test_sigmoid_in_front_of_the_upsample_stays(tmp_path: Path) -> None:
    tail: Tail = lambda y, x: up(torch.sigmoid(y), x)  # noqa: E731
    report = exported(tmp_path, tail, 1)
    operators = [node.op_type for node in onnx.load(report.path).graph.node]
    assert operators[-2:] == ["Sigmoid", "Sub"]
    assert report.card.probabilities
    check_labels(report, Tiny(tail, 1).eval(), lambda v: (v > 0.5).long())


def test_softmax_in_front_of_the_upsample_stays(tmp_path: Path) -> None:
    tail: Tail = lambda y, x: up(y.softmax(1), x)  # noqa: E731
    report = exported(tmp_path, tail)
    assert [node.op_type for node in onnx.load(report.path).graph.node][-1] == "Softmax"
    check_labels(report, Tiny(tail).eval(), argmax)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (lambda y, x: F.interpolate(y, size=x.shape[-2:], mode="bicubic"), "cubic"),
        (lambda y, x: F.interpolate(y, size=x.shape[-2:], mode="nearest"), "nearest"),
        (lambda y, x: up(y, x) + x.mean(1, keepdim=True), "nothing to cut"),
    ],
    ids=["bicubic", "nearest", "something behind"],
)
def test_other_upsamples_stay(tmp_path: Path, tail: Tail, reason: str) -> None:
    report = exported(tmp_path, tail)
    assert not report.tail.cut
    assert reason in report.tail.reason
    assert (report.card.stride, report.output_shape) == (1, (1, 5, *SIZE))
    check_labels(report, Tiny(tail).eval(), argmax)


def test_only_the_last_of_two_upsamples_is_cut(tmp_path: Path) -> None:
    def tail(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return up(F.interpolate(logits, scale_factor=2, mode="bilinear"), image)

    report = exported(tmp_path, tail)
    assert report.tail.removed == ("Resize x4 bilinear",)
    assert (report.card.stride, report.output_shape) == (4, (1, 5, 16, 24))
    check_labels(report, Tiny(tail).eval(), argmax)


def test_an_upsample_short_of_the_input_size_stays(tmp_path: Path) -> None:
    def tail(logits: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=True)

    report = exported(tmp_path, tail)
    assert not report.tail.cut
    assert "16x24" in report.tail.reason
    assert (report.card.stride, report.card.align_corners) == (4, False)
    check_labels(report, Tiny(tail).eval(), lambda v: up(v, torch.zeros(1, 3, *SIZE)).argmax(1))


def test_logits_without_upsample(tmp_path: Path) -> None:
    report = exported(tmp_path, lambda y, _: y)
    assert not report.tail.cut
    assert (report.card.stride, report.card.align_corners) == (8, False)
    check_labels(
        report,
        Tiny(lambda y, _: y).eval(),
        lambda v: up(v, torch.zeros(1, 3, *SIZE)).argmax(1),
    )


def test_argmax_of_small_logits_is_cut_to_the_logits(tmp_path: Path) -> None:
    report = exported(tmp_path, lambda y, _: y.softmax(1).argmax(1))
    assert report.tail.removed == ("Softmax", "ArgMax")
    assert report.output_shape == (1, 5, 8, 12)


class FullSize(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.head = torch.nn.Conv2d(3, 4, 5, padding=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.head(image)
        return (8 * (logits - logits.mean((2, 3), keepdim=True))).argmax(1)


def test_full_size_labels_stay_labels(tmp_path: Path) -> None:
    report = export(FullSize(), tmp_path / "m.onnx", options=ExportOptions(size=Size(*SIZE)))
    assert (report.card.head, report.card.stride, len(report.card.classes)) == ("labels", 1, 4)
    assert not report.tail.cut
    check_labels(report, FullSize().eval(), lambda v: v)


@pytest.mark.parametrize(
    ("tail", "head"), [(up, "logits"), (lambda y, x: up(y, x).argmax(1), "labels")]
)
def test_keep_tail(tmp_path: Path, tail: Tail, head: str) -> None:
    report = exported(tmp_path, tail, keep_tail=True)
    assert (report.tail.cut, report.card.head, report.card.stride) == (False, head, 1)
    assert len(report.card.classes) == 5
    check_labels(report, Tiny(tail).eval(), argmax if head == "logits" else lambda v: v)


def test_unclear_outputs_are_listed_and_chosen_by_name_or_index(tmp_path: Path) -> None:
    tail: Tail = lambda y, x: {"left": up(y, x)[:, :4], "right": up(-y, x)}  # noqa: E731
    with pytest.raises(ExportError) as caught:
        exported(tmp_path, tail)
    assert "[0] left 1x4x64x96; [1] right 1x5x64x96" in str(caught.value)
    assert "--output" in str(caught.value)
    with pytest.raises(UsageError, match="did you mean 'right'"):
        exported(tmp_path, tail, output="rigt")
    assert list(tmp_path.iterdir()) == []
    for wanted in ("right", "1", "-1"):
        report = exported(tmp_path, tail, output=wanted)
        check_labels(report, Tiny(tail).eval(), lambda v: v["right"].argmax(1))


class Classifier(torch.nn.Module):
    """The tutorial network in its flattened form."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.classifier = torch.nn.Linear(8, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image).mean((2, 3)))


def test_image_level_output_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export(Classifier(), tmp_path / "m.onnx", options=ExportOptions(size=Size(*SIZE)))
    text = str(caught.value)
    assert "output 1x10" in text
    assert "(N, classes, H/stride, W/stride)" in text
    assert "nn.Conv2d(features, 10, 1)" in text
    assert list(tmp_path.iterdir()) == []


def test_class_names_must_fit_the_channels(tmp_path: Path) -> None:
    with pytest.raises(SegedgeError) as caught:
        exported(tmp_path, up, 11, classes="cityscapes")
    text = str(caught.value)
    assert "19 (cityscapes)" in text
    assert "channels  11" in text
    assert "--classes camvid" in text
    assert list(tmp_path.iterdir()) == []
