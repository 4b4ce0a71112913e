"""The scores equal those of torchmetrics on random labels: ignored pixels, absent classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.measure.datasets.datasets import open_dataset
from segedge.measure.datasets.mapping import IGNORED
from segedge.measure.evaluate.confusion import Confusion
from segedge.measure.evaluate.evaluate import evaluate
from segedge.segment.segmenter import Segmenter

torch = pytest.importorskip("torch")
metrics = pytest.importorskip("torchmetrics.classification")


def random_labels(seed: int, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Truth and prediction; some classes occur in one only, some in none, a tenth is ignored."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(rng.permutation(count)[: max(1, count - 2)], (37, 53))
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, count, truth.shape))
    prediction[prediction == rng.integers(count)] = 0
    truth[rng.random(truth.shape) < 0.1] = IGNORED
    return truth, prediction


def expected(count: int, pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, Any]:
    options = {"num_classes": count, "ignore_index": IGNORED}
    own = {
        "miou": metrics.MulticlassJaccardIndex(average="macro", **options),
        "iou": metrics.MulticlassJaccardIndex(average="none", **options),
        "pixels": metrics.MulticlassAccuracy(average="micro", **options),
        "recall": metrics.MulticlassRecall(average="none", **options),
        "matrix": metrics.MulticlassConfusionMatrix(**options),
    }
    for truth, prediction in pairs:
        for metric in own.values():
            metric.update(torch.from_numpy(prediction)[None], torch.from_numpy(truth)[None])
    return {name: metric.compute().numpy() for name, metric in own.items()}


@pytest.mark.parametrize("count", [2, 3, 11, 60])
@pytest.mark.parametrize("seed", range(4))
def test_scores_of_random_labels(seed: int, count: int) -> None:
    pairs = [random_labels(10 * seed + n, count) for n in range(3)]
    confusion = Confusion([f"class {n}" for n in range(count)])
    for truth, prediction in pairs:
        confusion.add(truth, prediction)
    wanted = expected(count, pairs)
    np.testing.assert_array_equal(confusion.matrix, wanted["matrix"])
    assert confusion.miou == pytest.approx(float(wanted["miou"]), abs=1e-6)
    assert confusion.pixel_accuracy == pytest.approx(float(wanted["pixels"]), abs=1e-6)
    occurs = (confusion.matrix.sum(axis=0) + confusion.matrix.sum(axis=1)) > 0
    np.testing.assert_allclose(confusion.iou[occurs], wanted["iou"][occurs], atol=1e-6)
    assert np.isnan(confusion.iou[~occurs]).all()
    is_true = confusion.matrix.sum(axis=1) > 0
    recall = wanted["recall"][is_true].mean()
    assert confusion.mean_accuracy == pytest.approx(float(recall), abs=1e-6)


def test_a_whole_evaluation(tmp_path: Path) -> None:
    """From files: the labels that `run` would give, against the truth as it lies on the disk."""
    names = ("night", "dusk", "day", "glare")
    palette = ((0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0))
    card = ModelCard(names, palette, 32, 48, stride=8)
    rng = np.random.default_rng(5)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number in range(5):
        small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        image = cv2.resize(small, (70 + number, 50), interpolation=cv2.INTER_CUBIC)
        truth = (image.mean(axis=2) // 64).astype(np.uint8)
        truth[:4] = 255
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), image)
        cv2.imwrite(str(tmp_path / f"labels/{number}.png"), truth)
    with Segmenter(card, FakeBackend(card)) as segmenter:
        found = evaluate(segmenter, open_dataset(tmp_path, card_classes=names))
        pairs = []
        for number in range(5):
            image = cv2.imread(str(tmp_path / f"images/{number}.png"))
            truth = cv2.imread(str(tmp_path / f"labels/{number}.png"), 0).astype(np.int64)
            truth[truth == 255] = IGNORED
            pairs.append((truth, segmenter(image).labels.astype(np.int64)))
    wanted = expected(4, pairs)
    np.testing.assert_array_equal(found.confusion.matrix, wanted["matrix"])
    assert found.miou == pytest.approx(float(wanted["miou"]), abs=1e-6)
    for n, image in enumerate(found.images):
        assert image.miou == pytest.approx(float(expected(4, pairs[n : n + 1])["miou"]), abs=1e-6)
