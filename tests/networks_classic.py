"""Tiny classic networks: plain, encoder-decoder, dilated, attention; see tests/networks.py."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks_realtime import CLASSES, cbr, resize


class TutorialCnn(nn.Sequential):
    """What a first tutorial builds: five plain convolutions and a 1x1 classifier, no stride."""

    def __init__(self) -> None:
        widths = (3, 64, 128, 256, 512, 512)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(512, CLASSES, 1))
        for layer in self:
            if isinstance(layer, nn.Conv2d):  # no norm keeps the signal alive here
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


class UNet(nn.Module):
    """Two levels down by max pooling, two up by transposed convolution, skips concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Sequential(cbr(3, 8), cbr(8, 8))
        self.down1, self.down2 = cbr(8, 16), cbr(16, 32)
        self.up2 = nn.ConvTranspose2d(32, 16, 2, 2)
        self.up1 = nn.ConvTranspose2d(16, 8, 4, 2, 1)
        self.merge2, self.merge1 = cbr(32, 16), cbr(16, 8)
        self.classify = nn.Conv2d(8, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        top = self.enter(image)
        middle = self.down1(F.max_pool2d(top, 2))
        bottom = self.down2(F.max_pool2d(middle, 2))
        middle = self.merge2(torch.cat([middle, self.up2(bottom)], 1))
        return self.classify(self.merge1(torch.cat([top, self.up1(middle)], 1)))


class DeepLab(nn.Module):
    """DeepLabV3+: dilated convolutions side by side with a pooled image feature."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(cbr(3, 8, 3, 2), cbr(8, 16, 3, 2))
        self.deep = nn.Sequential(cbr(16, 24, 3, 2), cbr(24, 32))
        rates = (2, 4, 6)
        self.rates = nn.ModuleList([nn.Conv2d(32, 8, 3, 1, r, dilation=r) for r in rates])
        self.point, self.image = cbr(32, 8, 1), cbr(32, 8, 1)
        self.project, self.reduce = cbr(40, 16, 1), cbr(16, 8, 1)
        self.refine, self.classify = cbr(24, 16), nn.Conv2d(16, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        low = self.low(image)
        x = self.deep(low)
        pooled = resize(self.image(F.adaptive_avg_pool2d(x, 1)), x, False)
        parts = [self.point(x), *(F.silu(rate(x)) for rate in self.rates), pooled]
        x = resize(self.project(torch.cat(parts, 1)), low, False)
        logits = self.classify(self.refine(torch.cat([x, self.reduce(low)], 1)))
        return resize(logits, image, False)


class SegFormer(nn.Module):
    """SegFormer of Hugging Face from a tiny config, and the upsample that users add to it."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        config = SegformerConfig(
            depths=[1, 1, 1, 1],
            hidden_sizes=[8, 16, 24, 32],
            num_attention_heads=[1, 2, 2, 4],
            decoder_hidden_size=32,
            num_labels=CLASSES,
        )
        self.model = SegformerForSemanticSegmentation(config)

    def forward(self, image: Tensor) -> Tensor:
        return resize(self.model(pixel_values=image).logits, image, False)


class GroupNormNet(nn.Module):
    """Group, instance and layer norm, GELU and hard swish, and softmax inside the network."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 3, 4, 1)
        self.group, self.instance = nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True)
        self.layer = nn.LayerNorm(8)
        self.middle, self.classify = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.hardswish(self.group(self.enter(image)))
        x = F.gelu(self.instance(self.middle(x)))
        x = self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = x * torch.softmax(x, dim=1) + x
        x = x / torch.sqrt(x.pow(2).mean(1, keepdim=True) + 1e-7)
        return resize(self.classify(x), image, False)
