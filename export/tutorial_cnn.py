"""The network of many first tutorials, as a segmentation network.

Five 3x3 convolutions (3-64-128-256-512-512) with ReLU, then a linear classifier softmax(W x + b).
Applied to every pixel, W x + b is a 1x1 convolution, and the network gives a class a pixel. Applied
to the flattened image it gives one class a picture, which is no segmentation: `segedge export`
refuses that form and says how to mend the head.

    python export/tutorial_cnn.py --classes sky,road,other --size 96x128 -o tutorial.onnx
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from torch import Tensor, nn

import segedge
from segedge.card.geometry import Size

WIDTHS = (3, 64, 128, 256, 512, 512)


def features() -> nn.Sequential:
    """Five 3x3 convolutions with ReLU; height and width stay as they are."""
    layers: list[nn.Module] = []
    for channels_in, channels_out in itertools.pairwise(WIDTHS):
        layers += [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


class PixelClassifier(nn.Module):
    """softmax(W x + b) at every pixel."""

    def __init__(self, num_classes: int) -> None:
        """Make one with random weights."""
        super().__init__()
        self.features = features()
        self.classifier = nn.Conv2d(WIDTHS[-1], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """From N x 3 x H x W to probabilities N x classes x H x W."""
        return self.classifier(self.features(image)).softmax(dim=1)


class ImageClassifier(nn.Module):
    """softmax(W x + b) of the flattened picture: one class for all of it."""

    def __init__(self, num_classes: int, height: int, width: int) -> None:
        """Make one with random weights, for one input size."""
        super().__init__()
        self.features = features()
        self.classifier = nn.Linear(WIDTHS[-1] * height * width, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """From N x 3 x H x W to probabilities N x classes."""
        return self.classifier(self.features(image).flatten(1)).softmax(dim=1)


def tutorial_cnn(num_classes: int = 3) -> nn.Module:
    """The segmentation form."""
    return PixelClassifier(num_classes)


def tutorial_cnn_flattened(num_classes: int = 3, height: int = 16, width: int = 16) -> nn.Module:
    """The image-level form, which cannot be exported as a segmentation network."""
    return ImageClassifier(num_classes, height, width)


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("tutorial.onnx"))
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--classes", default="sky,road,other")
    parser.add_argument("--size", default="96x128", help="HEIGHTxWIDTH")
    words = parser.parse_args()
    classes = tuple(words.classes.split(","))
    options = segedge.ExportOptions(
        checkpoint=words.checkpoint,
        arguments={"num_classes": len(classes)},
        classes=classes,
        size=Size.parse(words.size),
    )
    report = segedge.export(f"{__file__}:tutorial_cnn", words.out, options=options)
    print(f"{report.path}: {report.nodes} nodes, stride {report.card.stride}")


if __name__ == "__main__":
    main()
