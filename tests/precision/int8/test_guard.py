"""quantize_guarded(): the bound, the ranking, the curve, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from quantize_nets import WEIGHTS, card, network, save

import segedge
from segedge.card.card import ModelCard
from segedge.card.modelfile import read_metadata
from segedge.errors import SegedgeError, UsageError
from segedge.measure.datasets.datasets import Dataset, open_dataset
from segedge.measure.evaluate.agreement import compare
from segedge.measure.evaluate.evaluate import evaluate
from segedge.measure.optimize.guard import GuardOptions, GuardReport, quantize_guarded
from segedge.precision.int8.quantizer import QuantizeOptions, Quantizer

MINMAX = QuantizeOptions(method="minmax", correct=False)


@pytest.fixture(scope="module")
def harmful(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The residual network, its layer `e` with one huge input channel: int8 loses the others.

    A channel of `p` is a thousand times the others, and `e` weighs it a thousandth: float sees no
    difference, one scale for the whole tensor leaves the other channels no steps.
    """
    weights = {name: np.array(value) for name, value in WEIGHTS.items()}
    body = """
        c1 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w1, b1)
        r1 = Relu (c1)
        p = Conv (r1, wp)
        rp = Relu (p)
        e = Conv (rp, we)
        re = Relu (e)
        o = Conv (re, wq)
        ro = Relu (o)
        logits = Conv (ro, wl, bl)
    """
    weights["wp"][3] = 1000 * np.abs(weights["wp"][3])
    weights["we"][:, 3] /= 1000
    weights["wq"] = weights["we"][:, ::-1].copy()
    for unused in ("wd", "wo"):
        del weights[unused]
    weights["bl"] = np.zeros(3, np.float32)
    path = save(tmp_path_factory.mktemp("harmful") / "net.onnx", network(body, weights))
    answers = Quantizer.calibrate(path, [images], options=MINMAX).reference().answers
    weights["bl"] = -np.mean(answers, axis=(0, 1, 3, 4)).astype(np.float32)  # no class everywhere
    return save(path, network(body, weights))


@pytest.fixture(scope="module")
def guarded(harmful: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> GuardReport:
    out = tmp_path_factory.mktemp("guarded") / "int8.onnx"
    return quantize_guarded(
        harmful, out, calibrate=[images], options=MINMAX, guard=GuardOptions(max_drop=3)
    )


def test_the_harmful_layer_stays_float(guarded: GuardReport) -> None:
    assert guarded.curve[0].drop > 3  # all in int8 is too bad
    assert guarded.ranking[0].name == "e"
    assert guarded.holds
    kept = {layer.name for layer in guarded.layers if not layer.int8}
    assert {"e", "logits"} <= kept
    assert "number 1 in harm" in {la.name: la.reason for la in guarded.layers}["e"]


def test_the_curve_holds_every_network_that_was_judged(guarded: GuardReport) -> None:
    errors = [harm.logit_error for harm in guarded.ranking]
    assert errors == sorted(errors, reverse=True)
    assert {harm.name for harm in guarded.ranking} == {"c1", "p", "e", "o"}
    assert guarded.chosen in guarded.curve
    shares = [point.mac_share for point in guarded.curve]
    assert shares == sorted(shares, reverse=True)
    fewer = [point for point in guarded.curve if point.kept < guarded.chosen.kept]
    assert all(point.drop > guarded.max_drop for point in fewer)
    assert fewer[-1].kept == guarded.chosen.kept - 1


def test_what_is_written_is_what_was_judged(
    guarded: GuardReport, harmful: Path, images: Path
) -> None:
    pictures = [(f.name, cv2.imread(str(f))) for f in sorted(images.iterdir())]
    with (
        segedge.load(harmful, backend="onnxruntime") as one,
        segedge.load(guarded.out, backend="onnxruntime:simulated") as two,
    ):
        found = compare(one, two, pictures).agreement
    assert found == guarded.chosen.score
    assert np.isclose(guarded.chosen.drop, 100 * (1 - found))


def test_the_card_keeps_the_measured_drop(guarded: GuardReport) -> None:
    own = ModelCard.from_metadata(read_metadata(guarded.out))
    assert own is not None
    record = own.quantization
    assert record is not None
    assert (record.metric, record.judge, record.max_drop) == ("agreement", "simulated", 3)
    assert (record.float_score, record.score) == (1.0, guarded.chosen.score)
    assert record.judged_on == "4 calibration images"
    assert "e" in record.kept


def test_a_bound_that_cannot_hold_leaves_the_best(
    harmful: Path, images: Path, tmp_path: Path
) -> None:
    found = quantize_guarded(
        harmful, tmp_path / "q.onnx", calibrate=[images], options=MINMAX,
        guard=GuardOptions(max_drop=0),
    )  # fmt: skip
    assert not found.holds
    assert found.chosen.drop == min(point.drop for point in found.points)
    assert max(point.kept for point in found.points) == 3  # one layer at least is int8
    own = ModelCard.from_metadata(read_metadata(found.out))
    assert own is not None
    assert own.quantization is not None
    assert own.quantization.score == found.chosen.score


def test_all_methods_are_judged_and_nothing_is_ranked_where_the_bound_holds(
    model: Path, images: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    found = quantize_guarded(
        model, tmp_path / "q.onnx", calibrate=[images], guard=GuardOptions(max_drop=50),
        progress=lambda what, done, total: told.append(what),
    )  # fmt: skip
    plain = [point.method for point in found.points if not point.corrections]
    assert plain == ["minmax", "percentile", "entropy", "mse"]
    assert len(found.points) - len(plain) <= 1
    assert found.chosen.drop == min(point.drop for point in found.points)
    assert not found.ranking
    assert "ranking layers" not in told


def labelled(folder: Path, images: Path, model: Path) -> Dataset:
    """The images with the float network's own labels as the truth: its mIoU is 1."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    with segedge.load(model, backend="onnxruntime") as segmenter:
        for file in images.iterdir():
            image = cv2.imread(str(file))
            cv2.imwrite(str(folder / "images" / file.name), image)
            cv2.imwrite(str(folder / "labels" / file.name), segmenter(image).labels)
    own = card()
    return open_dataset(
        folder, card_classes=own.classes, palette_rgb=own.palette_rgb, ignore_index=255
    )


def test_miou_on_a_data_set(model: Path, images: Path, tmp_path: Path) -> None:
    dataset = labelled(tmp_path / "set", images, model)
    found = quantize_guarded(
        model, tmp_path / "q.onnx", calibrate=[images], dataset=dataset, options=MINMAX,
        guard=GuardOptions(max_drop=40),
    )  # fmt: skip
    assert found.float_score == 1.0
    assert found.judged_on == "set, 4 images"
    with segedge.load(found.out, backend="onnxruntime:simulated") as segmenter:
        assert evaluate(segmenter, dataset, boundary=False).miou == found.chosen.score
    assert found.to_dict()["holds"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"judge": "simulate"}, "no judge 'simulate'; did you mean 'simulated'"),
        ({"max_drop": -1.0}, "in points and not negative"),
    ],
)
def test_options_that_cannot_be_meant(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        GuardOptions(**wrong)


def test_nothing_is_written_where_judging_fails(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise SegedgeError("lost")

    monkeypatch.setattr("segedge.measure.optimize.guard.compare", fail)
    with pytest.raises(SegedgeError, match="lost"):
        quantize_guarded(model, tmp_path / "q.onnx", calibrate=[images])
    assert not list(tmp_path.iterdir())
