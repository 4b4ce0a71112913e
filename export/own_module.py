"""Export your own module: what segedge must be told, and nothing else.

    python export/own_module.py -o own.onnx
    python export/own_module.py --checkpoint best.pth --verify val_images/ -o own.onnx

On the command line the same is ``segedge export export/own_module.py:small_unet --checkpoint
best.pth --classes background,part,scratch --size 256x256 -o own.onnx``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import segedge
from segedge.card.geometry import Size

CLASSES = ("background", "part", "scratch")


class SmallUnet(nn.Module):
    """A two-level U-Net: enough to show every step."""

    def __init__(self, num_classes: int, width: int = 16) -> None:
        """Make one with random weights.

        Args:
            num_classes: Logit channels.
            width: Channels of the first level.
        """
        super().__init__()
        self.enter = _block(3, width)
        self.down = _block(width, 2 * width, stride=2)
        self.deep = _block(2 * width, 4 * width, stride=2)
        self.up = _block(6 * width, 2 * width)
        self.classifier = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """From N x 3 x H x W to logits N x classes x H x W (H and W multiples of 4)."""
        half = self.down(self.enter(image))
        deep = F.interpolate(self.deep(half), scale_factor=2, mode="bilinear")
        logits = self.classifier(self.up(torch.cat([half, deep], dim=1)))
        # segedge cuts this upsampling off and does it in its own tail.
        return F.interpolate(logits, size=image.shape[2:], mode="bilinear")


def _block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def small_unet(num_classes: int = len(CLASSES)) -> nn.Module:
    """The factory that `segedge export` calls."""
    return SmallUnet(num_classes)


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("own.onnx"))
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--verify", type=Path, help="real images: parity is measured on them")
    words = parser.parse_args()
    options = segedge.ExportOptions(
        checkpoint=words.checkpoint,
        classes=CLASSES,
        size=Size(256, 256),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        fit="letterbox",
        verify=words.verify,
    )
    report = segedge.export(f"{__file__}:small_unet", words.out, options=options)
    print(f"{report.path}: {report.nodes} nodes, parity {report.card.parity}")


if __name__ == "__main__":
    main()
