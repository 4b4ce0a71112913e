"""A compact two-branch network for real-time segmentation, about one million parameters.

One branch keeps detail at stride 8, the other gathers context at stride 32; they are added and
classified at stride 8. The idea of the shared shallow stem is that of Fast-SCNN
(Poudel et al., BMVC 2019); the code and the proportions are this project's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1,
          relu: bool = True) -> nn.Sequential:  # fmt: skip
    """Convolution, batch norm and, if asked for, ReLU; (N, inputs, H, W) -> (N, outputs, ...)."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def _separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Depthwise 3x3, then pointwise convolution."""
    return nn.Sequential(_conv(inputs, inputs, 3, stride, groups=inputs), _conv(inputs, outputs))


class Bottleneck(nn.Module):
    """Inverted residual: widen, filter each channel, narrow; (N, C, H, W) -> (N, outputs, ...)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, widen: int = 4) -> None:
        """Build the block; the input is added where shapes allow it."""
        super().__init__()
        wide = inputs * widen
        self.body = nn.Sequential(
            _conv(inputs, wide),
            _conv(wide, wide, 3, stride, groups=wide),
            _conv(wide, outputs, relu=False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class ContextPooling(nn.Module):
    """Pyramid pooling with windows of fixed size, plus the mean of each row and of the whole.

    Windows of 4 and 2 cells are plain average pools, so export needs no adaptive pooling. Rows
    matter in a street: how far up a pixel lies says much about what it is.
    """

    def __init__(self, channels: int) -> None:
        """Build four branches of ``channels // 4`` channels each."""
        super().__init__()
        self.branches = nn.ModuleList(_conv(channels, channels // 4) for _ in range(4))
        self.join = _conv(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Add context; (N, C, H, W) -> (N, C, H, W) with H, W >= 4."""
        pooled = [
            F.avg_pool2d(x, 2), F.avg_pool2d(x, 4), x.mean(3, keepdim=True),
            x.mean((2, 3), keepdim=True),
        ]  # fmt: skip
        views = [x]
        for branch, small in zip(self.branches, pooled, strict=True):
            view = branch(small)
            if small.shape[3] == 1:
                views.append(view.expand(-1, -1, x.shape[2], x.shape[3]))
            else:
                views.append(_resize(view, x))
        joined: Tensor = self.join(torch.cat(views, 1))
        return joined


def _resize(x: Tensor, like: Tensor) -> Tensor:
    """Resize bilinearly to the height and width of ``like``."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


class StreetNet(nn.Module):
    """The network; see :func:`street_net`."""

    def __init__(self, num_classes: int) -> None:
        """Build all layers with fresh weights."""
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 24, 3, 2), _conv(24, 48, 3, 2), _separable(48, 64, 2))
        self.detail = nn.Sequential(_separable(64, 128), _separable(128, 128))
        self.context = nn.Sequential(
            Bottleneck(64, 96, 2), Bottleneck(96, 96), Bottleneck(96, 96),
            Bottleneck(96, 128, 2), Bottleneck(128, 128), Bottleneck(128, 128),
            Bottleneck(128, 128), ContextPooling(128),
        )  # fmt: skip
        self.from_detail = _conv(128, 128, relu=False)
        self.from_context = _conv(128, 128, relu=False)
        self.fuse = _conv(128, 128, 3, groups=128)
        self.head = nn.Sequential(
            _separable(128, 128), _separable(128, 128), nn.Dropout(0.05),
            nn.Conv2d(128, num_classes, 1),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        """Score pixels; (N, 3, H, W) normalised RGB -> (N, num_classes, H, W) logits."""
        return _resize(self.scores(image), image)

    def scores(self, image: Tensor) -> Tensor:
        """Logits before they are resized; (N, 3, H, W) -> (N, num_classes, H / 8, W / 8)."""
        shallow = self.stem(image)
        detail = self.from_detail(self.detail(shallow))
        context = self.from_context(self.context(shallow))
        fused = self.fuse(F.relu(detail + _resize(context, detail)))
        scores: Tensor = self.head(fused)
        return scores


def street_net(num_classes: int = 12) -> StreetNet:
    """Build the network of the street demo with fresh weights.

    Args:
        num_classes: Number of classes; the 12 of the street scenes by default.

    Returns:
        A module (N, 3, H, W) float, RGB, normalised -> logits (N, num_classes, H, W). The logits
        are made at stride 8 and resized bilinearly (half-pixel centres) in ``forward``. H and W
        are best multiples of 32, and at least 128.
    """
    return StreetNet(num_classes)
