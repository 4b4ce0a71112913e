"""What batch normalisations expect travels with the file, by the names of the finished graph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from segedge.adaptation.layers import find_layers
from segedge.adaptation.measure import measure
from segedge.card.card import ModelCard
from segedge.card.familiar import FAMILIAR
from segedge.card.geometry import Geometry, Size
from segedge.card.modelfile import read_card, read_metadata
from segedge.card.statistics import STATISTICS
from segedge.convert.export import export
from segedge.convert.options import ExportOptions
from segedge.graph.kit import load_model
from segedge.reference.frame import preprocess

SIZE = Size(32, 48)


class Net(nn.Module):
    """Normalisations behind a convolution, a transposed one, and nothing that could be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.pre = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 6, 2, 2), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Conv2d(6, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.first(image)
        return self.head(self.up(x + self.pre(x)))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(6):
        small = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(small, (48, 32)))
    return folder


@pytest.fixture(scope="module", params=["module", "script"])
def exported(
    request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A network whose statistics are exactly those of the images, by either exporter."""
    torch.manual_seed(0)
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
            module.momentum = None
    nn.init.normal_(net.head.weight, std=2.0)
    batch = torch.from_numpy(np.concatenate(tensors(images)))
    with torch.no_grad():
        net.train()(batch)
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    options = ExportOptions(size=SIZE, classes=("a", "b", "c"), verify=images)
    source: object = net.eval()
    if request.param == "script":
        source = path.with_suffix(".pt")
        torch.jit.trace(net, batch[:1]).save(str(source))
    export(source, path, options=options)
    return path


def tensors(images: Path) -> list[np.ndarray]:
    card = ModelCard(("a",), ((0, 0, 0),), SIZE.height, SIZE.width)
    geometry = Geometry.fit(SIZE, SIZE, card.fit)
    return [preprocess(cv2.imread(str(path)), card, geometry) for path in sorted(images.iterdir())]


def test_every_normalised_value_is_as_the_file_says(exported: Path, images: Path) -> None:
    statistics = STATISTICS.read(read_metadata(exported))
    assert statistics is not None
    assert statistics.origin == "BatchNorm"
    model = load_model(exported)
    layers = find_layers(model, statistics)
    measured = {layer.value for layer in layers}
    made_by = [node.op_type for node in model.graph if node.outputs[0].name in measured]
    assert made_by == ["Conv", "BatchNormalization", "ConvTranspose"]
    for found in measure(model, layers, tensors(images), normalise=False).values():
        np.testing.assert_allclose(found.mean, 0.0, atol=0.01)
        np.testing.assert_allclose(found.variance, 1.0, rtol=0.02)


def test_they_stay_when_the_file_is_adopted_again(exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    export(exported, again, options=ExportOptions(classes=("a", "b", "c")))
    first, second = (STATISTICS.read(read_metadata(path)) for path in (exported, again))
    assert first is not None
    assert second is not None
    assert set(second.expected) == set(first.expected)


def test_what_the_answers_look_like_travels_too(exported: Path) -> None:
    known = FAMILIAR.read(read_metadata(exported))
    assert known is not None
    assert known.images == 6
    assert 1 / 3 < known.confidence < 1
    assert sum(known.class_shares) == pytest.approx(1, abs=1e-3)
    assert read_card(exported) is not None
