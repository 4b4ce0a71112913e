"""Tiny real-time networks, two-branch and three-branch ones, each with its family's operators.

Written after the papers with a handful of channels and random weights; see tests/networks.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 6
"""Logit channels of every network of the zoo."""


def cbr(
    inputs: int, outputs: int, k: int = 3, s: int = 1, *, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution, batch norm and (where wanted) ReLU."""
    conv = nn.Conv2d(inputs, outputs, k, s, k // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


def resize(x: Tensor, like: Tensor, corners: bool) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=corners)


class Residual(nn.Module):
    """The basic block of ResNet."""

    def __init__(self, inputs: int, outputs: int, s: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(cbr(inputs, outputs, 3, s), cbr(outputs, outputs, relu=False))
        plain = s == 1 and inputs == outputs
        self.skip = nn.Identity() if plain else cbr(inputs, outputs, 1, s, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class Pyramid(nn.Module):
    """DAPPM (PPM by cumulated sums) of DDRNet; ``parallel`` is PIDNet's PAPPM."""

    def __init__(self, c: int, outputs: int, *, parallel: bool, corners: bool) -> None:
        super().__init__()
        self.corners, self.parallel = corners, parallel
        pools = [nn.AvgPool2d(k, s, k // 2) for k, s in ((5, 2), (9, 4), (17, 8))]
        self.pools = nn.ModuleList([*pools, nn.AdaptiveAvgPool2d(1)])
        self.scales = nn.ModuleList([self.pre(c, 8, 1) for _ in range(5)])
        self.process = nn.ModuleList([self.pre(8, 8, 3) for _ in range(4)])
        self.grouped = nn.Conv2d(32, 32, 3, 1, 1, groups=4)
        self.compress, self.skip = self.pre(40, outputs, 1), self.pre(c, outputs, 1)

    @staticmethod
    def pre(inputs: int, outputs: int, k: int) -> nn.Sequential:
        """Norm and ReLU first: a batch norm that cannot be folded into a convolution."""
        conv = nn.Conv2d(inputs, outputs, k, 1, k // 2, bias=False)
        return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.scales[0](x)]
        for pool, scale, process in zip(self.pools, self.scales[1:], self.process, strict=True):
            pooled = resize(scale(pool(x)), x, self.corners)
            base = parts[0] if self.parallel else parts[-1]
            parts.append(pooled + base if self.parallel else process(pooled + base))
        if self.parallel:
            parts = [parts[0], self.grouped(torch.cat(parts[1:], 1))]
        return self.compress(torch.cat(parts, 1)) + self.skip(x)


class DdrNet(nn.Module):
    """DDRNet-23-slim: two resolutions side by side, exchanging features (arXiv 2101.06085)."""

    def __init__(self, *, corners: bool = False) -> None:
        super().__init__()
        self.corners = corners
        self.stem = nn.Sequential(cbr(3, 8, 3, 2), cbr(8, 8, 3, 2), Residual(8, 8))
        self.layer2, self.layer3 = Residual(8, 16, 2), Residual(16, 24, 2)
        self.high3, self.high4 = Residual(16, 16), Residual(16, 16)
        self.layer4, self.layer5 = Residual(24, 32, 2), Residual(32, 32, 2)
        self.compress = cbr(24, 16, 1, relu=False)
        self.down = cbr(16, 24, 3, 2, relu=False)
        self.high5 = Residual(16, 16)
        self.pyramid = Pyramid(32, 16, parallel=False, corners=corners)
        self.head = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), cbr(16, 16))
        self.classify = nn.Conv2d(16, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.layer2(self.stem(image))
        low, high = self.layer3(x), self.high3(x)
        fused = high + resize(self.compress(F.relu(low)), high, self.corners)
        low = self.layer4(F.relu(low + self.down(F.relu(high))))
        high = self.high5(self.high4(F.relu(fused)))
        low = resize(self.pyramid(self.layer5(low)), high, self.corners)
        logits = self.classify(self.head(low + high))
        return resize(logits, image, self.corners)


class Pag(nn.Module):
    """Pixel-attention-guided fusion of PIDNet."""

    def __init__(self, c: int, middle: int, *, corners: bool) -> None:
        super().__init__()
        self.corners = corners
        self.x, self.y = cbr(c, middle, 1, relu=False), cbr(c, middle, 1, relu=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        keys = resize(self.y(y), x, self.corners)
        gate = torch.sigmoid(torch.sum(self.x(x) * keys, dim=1, keepdim=True))
        return (1 - gate) * x + gate * resize(y, x, self.corners)


class PidNet(nn.Module):
    """PIDNet-S: three branches, fused under a boundary map, the bag (arXiv 2206.02066)."""

    def __init__(self, *, corners: bool = False) -> None:
        super().__init__()
        self.corners = corners
        self.stem = nn.Sequential(cbr(3, 8, 3, 2), cbr(8, 8, 3, 2), Residual(8, 16, 2))
        self.i3, self.i4, self.i5 = Residual(16, 24, 2), Residual(24, 32, 2), Residual(32, 32, 2)
        self.p3, self.p4, self.p5 = Residual(16, 16), Residual(16, 16), Residual(16, 16)
        self.d3, self.d4, self.d5 = Residual(16, 8), Residual(8, 16), Residual(16, 16)
        self.compress3, self.diff3 = cbr(24, 16, 1, relu=False), cbr(24, 8, 3, relu=False)
        self.compress4, self.diff4 = cbr(32, 16, 1, relu=False), cbr(32, 16, 3, relu=False)
        self.pag3, self.pag4 = Pag(16, 8, corners=corners), Pag(16, 8, corners=corners)
        self.pyramid = Pyramid(32, 16, parallel=True, corners=corners)
        self.bag = Pyramid.pre(16, 16, 3)
        self.head = nn.Sequential(Pyramid.pre(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
        self.classify = nn.Conv2d(16, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        p, d, i = self.p3(x), self.d3(x), F.relu(self.i3(x))
        p = self.pag3(p, self.compress3(i))
        d = d + resize(self.diff3(i), d, self.corners)
        i = F.relu(self.i4(i))
        p, d = self.p4(F.relu(p)), self.d4(F.relu(d))
        p = self.pag4(p, self.compress4(i))
        d = self.d5(F.relu(d + resize(self.diff4(i), d, self.corners)))
        p, i = self.p5(F.relu(p)), resize(self.pyramid(self.i5(i)), x, self.corners)
        edge = torch.sigmoid(d)
        logits = self.classify(self.head(self.bag(edge * p + (1 - edge) * i)))
        return resize(logits, image, self.corners)


class GatherExpand(nn.Module):
    """The gather-and-expansion layer of BiSeNetV2."""

    def __init__(self, inputs: int, outputs: int, s: int) -> None:
        super().__init__()
        wide = inputs * 3
        body = [cbr(inputs, inputs), cbr(inputs, wide, 3, s, groups=inputs, relu=False)]
        body += [cbr(wide, wide, groups=wide)] if s == 2 else []
        self.body = nn.Sequential(*body, cbr(wide, outputs, 1, relu=False))
        skip = nn.Sequential(
            cbr(inputs, inputs, 3, s, groups=inputs, relu=False),
            cbr(inputs, outputs, 1, relu=False),
        )
        self.skip = skip if s == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class BiSeNet(nn.Module):
    """BiSeNetV2: a detail and a semantic branch, guided aggregation (arXiv 2004.02147)."""

    def __init__(self) -> None:
        super().__init__()
        self.detail = nn.Sequential(cbr(3, 8, 3, 2), cbr(8, 8, 3, 2), cbr(8, 16, 3, 2), cbr(16, 16))
        self.stem, self.stem_conv = cbr(3, 8, 3, 2), nn.Sequential(cbr(8, 4, 1), cbr(4, 8, 3, 2))
        self.stem_pool, self.stem_fuse = nn.MaxPool2d(3, 2, 1), cbr(16, 8)
        self.semantic = nn.Sequential(
            GatherExpand(8, 12, 2), GatherExpand(12, 16, 2), GatherExpand(16, 16, 2),
            GatherExpand(16, 16, 1),
        )  # fmt: skip
        self.context_norm, self.context_conv = nn.BatchNorm2d(16), cbr(16, 16, 1)
        self.context_last = nn.Conv2d(16, 16, 3, 1, 1)
        self.left_keep = nn.Sequential(cbr(16, 16, groups=16, relu=False), nn.Conv2d(16, 16, 1))
        self.left_down = nn.Sequential(cbr(16, 16, 3, 2, relu=False), nn.AvgPool2d(3, 2, 1))
        self.right_keep = nn.Sequential(cbr(16, 16, groups=16, relu=False), nn.Conv2d(16, 16, 1))
        self.right_up = cbr(16, 16, relu=False)
        self.fuse, self.classify = cbr(16, 16), nn.Conv2d(16, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        detail, x = self.detail(image), self.stem(image)
        x = self.stem_fuse(torch.cat([self.stem_conv(x), self.stem_pool(x)], 1))
        x = self.semantic(x)
        context = self.context_conv(self.context_norm(torch.mean(x, dim=(2, 3), keepdim=True)))
        x = self.context_last(context + x)
        gate = F.interpolate(self.right_up(x), scale_factor=4, mode="bilinear", align_corners=True)
        left = self.left_keep(detail) * torch.sigmoid(gate)
        right = self.left_down(detail) * torch.sigmoid(self.right_keep(x))
        logits = self.classify(self.fuse(left + resize(right, left, True)))
        return F.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=True)


class FastScnn(nn.Module):
    """Fast-SCNN: learning to downsample, inverted residuals, pooled context (arXiv 1902.04502)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            cbr(3, 8, 3, 2), self.separable(8, 12, 2), self.separable(12, 16, 2)
        )
        self.deep = nn.Sequential(GatherExpand(16, 16, 2), GatherExpand(16, 24, 2))
        self.pools = nn.ModuleList([nn.AdaptiveAvgPool2d(k) for k in (1, 2, 4)])
        self.reduce = nn.ModuleList([cbr(24, 8, 1) for _ in range(3)])
        self.context, self.low = cbr(48, 24, 1), cbr(16, 16, 1, relu=False)
        self.high = nn.Sequential(cbr(24, 24, groups=24), cbr(24, 16, 1, relu=False))
        self.head = nn.Sequential(self.separable(16, 16, 1), nn.Dropout(0.1))
        self.classify = nn.Conv2d(16, CLASSES, 1)

    @staticmethod
    def separable(inputs: int, outputs: int, s: int) -> nn.Sequential:
        return nn.Sequential(cbr(inputs, inputs, 3, s, groups=inputs), cbr(inputs, outputs, 1))

    def forward(self, image: Tensor) -> Tensor:
        detail = self.down(image)
        x = self.deep(detail)
        pairs = zip(self.pools, self.reduce, strict=True)
        pooled = [resize(reduce(pool(x)), x, True) for pool, reduce in pairs]
        x = self.high(resize(self.context(torch.cat([x, *pooled], 1)), detail, True))
        return resize(self.classify(self.head(F.relu(x + self.low(detail)))), image, True)
