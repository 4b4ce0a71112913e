"""Networks whose activation stays inside the file: how sure they are is what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import segedge
from segedge.card.geometry import Size
from segedge.card.modelfile import require_card
from tests.fast_export import hasten_exports

SIZE = Size(24, 40)


@pytest.fixture(autouse=True)
def quick() -> None:
    hasten_exports()


def picture() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (SIZE.height, SIZE.width, 3), np.uint8)


def shown(network: nn.Module, path: Path, options: segedge.ExportOptions) -> torch.Tensor:
    """The network's own answer to the picture, as the file is given it."""
    card = require_card(segedge.export(network, path, options=options).path)
    assert card.probabilities
    tensor = torch.from_numpy(picture()[..., ::-1].copy()).permute(2, 0, 1)[None] / 255.0
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (card.mean, card.std))
    with torch.no_grad():
        return network((tensor - mean) / std)[0]


def test_softmax_that_stays_is_the_confidence(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 19, 3, padding=1), nn.Softmax(dim=1)).eval()
    network[0].weight.data *= 4.0
    options = segedge.ExportOptions(size=SIZE, classes="cityscapes", keep_tail=True)
    shares = shown(network, tmp_path / "m.onnx", options).numpy()
    with segedge.load(tmp_path / "m.onnx", backend="onnxruntime") as segmenter:
        result = segmenter(picture(), outputs=("confidence", "mean_confidence"))
        np.testing.assert_allclose(result.confidence, shares.max(axis=0), atol=1e-4)
        assert result.mean_confidence == pytest.approx(shares.max(axis=0).mean(), abs=1e-4)
        clear = np.ptp(np.sort(shares, axis=0)[-2:], axis=0) > 1e-3
        assert np.array_equal(result.labels[clear], shares.argmax(axis=0)[clear])


def test_one_channel_between_0_and_1_is_sure_of_both_classes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Hardsigmoid()).eval()
    network[0].weight.data *= 4.0
    options = segedge.ExportOptions(size=SIZE, classes="off,on")
    share = shown(network, tmp_path / "m.onnx", options)[0].numpy()
    with segedge.load(tmp_path / "m.onnx", backend="onnxruntime") as segmenter:
        result = segmenter(picture(), outputs=("labels", "confidence"))
    np.testing.assert_allclose(result.confidence, np.maximum(share, 1.0 - share), atol=1e-4)
    clear = np.abs(share - 0.5) > 1e-3
    assert np.array_equal(result.labels[clear], (share > 0.5)[clear].astype(np.uint8))
