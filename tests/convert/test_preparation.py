"""How images are prepared: who says so, and networks that normalise them, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from segedge.card.geometry import Size
from segedge.cli.main import run
from segedge.convert import ExportOptions, export
from segedge.convert.noise import smooth_noise
from segedge.errors import UsageError
from segedge.segment.load import load

SIZE = Size(64, 96)
MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
Function = Callable[[torch.Tensor], torch.Tensor]


class Inside(nn.Module):
    """A small network behind something that is done to its image."""

    def __init__(self, first: Function | nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = first
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 5, 1))
        self.up = nn.Upsample(scale_factor=4, mode="bilinear")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.layers(self.first(image))
        return self.up((logits - logits.mean(dim=(2, 3), keepdim=True)).contiguous())


def norm(mean: float, deviation: float) -> nn.Module:
    layer = nn.BatchNorm2d(3)
    layer.running_mean.fill_(mean)  # type: ignore[union-attr]
    layer.running_var.fill_(deviation**2)  # type: ignore[union-attr]
    return layer


def by_channel(image: torch.Tensor) -> torch.Tensor:
    planes = [(image[:, c : c + 1] - MEAN[0, c, 0, 0]) / STD[0, c, 0, 0] for c in range(3)]
    return torch.cat(planes, dim=1)


INSIDE: dict[str, tuple[Function | nn.Module, float]] = {
    "Sub, Div": (lambda x: (x - MEAN) / STD, 1.0),
    "clamped": (lambda x: (x.clamp(0, 1) - MEAN) / STD, 1.0),
    "levels": (lambda x: (x - 255 * MEAN) / (255 * STD), 255.0),
    "levels to 0..1 first": (lambda x: (x / 255 - MEAN) / STD, 255.0),
    "TensorFlow's": (lambda x: x / 127.5 - 1, 255.0),
    "Caffe's": (lambda x: 255 * x[:, [2, 1, 0]] - 255 * MEAN, 1.0),
    "a channel at a time": (by_channel, 1.0),
    "BatchNorm of 0..1": (norm(0.43, 0.26), 1.0),
    "BatchNorm of levels": (norm(115.0, 61.0), 255.0),
}
"""What a network does to its image, and the largest value that it is meant for."""


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("kind", ["module", "onnx"])
def test_a_network_that_normalises_inside_is_not_normalised_for(
    tmp_path: Path, name: str, kind: str
) -> None:
    first, largest = INSIDE[name]
    network: Any = Inside(first).eval()
    source: Any = network
    if kind == "onnx":
        source = tmp_path / "theirs.onnx"
        torch.onnx.export(network, (torch.rand(1, 3, 64, 96),), source, verbose=False)
    report = export(source, tmp_path / "m.onnx", options=ExportOptions(size=SIZE))
    assert report.prepared["mean"] == report.prepared["std"] == "network"
    assert report.prepared["color"] == "assumed"
    assert any("normalises its input itself" in note for note in report.notes)
    image = next(smooth_noise(SIZE, 1))
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        own = network(rgb / 255 * largest).argmax(1)[0].numpy()
    with load(report.path, backend="onnxruntime") as segmenter:
        labels = segmenter(image, outputs=["labels"]).labels
    assert np.mean(labels == own) > 0.999
    assert len(np.unique(own)) > 1


@pytest.mark.parametrize(
    "first",
    [lambda x: 2 * x - 1, norm(0.1, 0.05), lambda x: 1000 * x],
    ids=["2x - 1", "dark pictures", "1000x"],
)
def test_where_it_is_not_clear_what_a_network_is_given_it_is_asked(
    tmp_path: Path, first: Any
) -> None:
    with pytest.raises(UsageError, match="what it is given for that is not known") as caught:
        export(Inside(first).eval(), tmp_path / "m.onnx", options=ExportOptions(size=SIZE))
    assert "--mean 0 --std 1 for values 0 to 1" in (caught.value.fix or "")
    said = ExportOptions(size=SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
    report = export(Inside(first).eval(), tmp_path / "m.onnx", options=said)
    assert report.prepared["mean"] == "option"
    assert not report.notes


def test_twice_is_said_where_it_is_asked_for_or_likely(tmp_path: Path) -> None:
    said = ExportOptions(size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    asked = export(Inside(lambda x: 2 * x - 1).eval(), tmp_path / "m.onnx", options=said)
    assert any("scales its input itself, too (Mul, Sub)" in note for note in asked.notes)
    likely = export(
        Inside(norm(0, 1)).eval(), tmp_path / "m.onnx", options=ExportOptions(size=SIZE)
    )
    assert likely.prepared["mean"] == "assumed"
    assert any("as fits values that are normalised before" in note for note in likely.notes)


def test_the_printout_shows_how_images_are_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = f"{Path(__file__).parent / 'convert_nets.py'}:plain", tmp_path / "m.onnx"
    asked = ["--std", "0.25", "--resize", "pillow-bicubic"]
    commands = (
        (["export", source, "--size", "64x96", *asked],
         "images std 0.25 0.25 0.25, pillow-bicubic: as asked RGB, mean 0.485 0.456 0.406, "
         "stretch: assumed; --color, --mean, --fit where training did otherwise classes"),
        (["export", str(target), "--color", "bgr"],
         "images BGR: as asked mean 0.485 0.456 0.406, std 0.25 0.25 0.25, stretch, "
         "pillow-bicubic: said by m.onnx classes"),
    )  # fmt: skip
    for words, line in commands:
        out = target if words[1] == source else tmp_path / "again.onnx"
        with pytest.raises(SystemExit) as caught:
            run([*words, "-o", str(out)])
        assert caught.value.code in (0, None)
        assert line in " ".join(capsys.readouterr().out.split())
