"""Small random networks whose last lines are those that people write, and what they mean by them.

Each is the same body at stride 8, its logits centred and steepened so that every class occurs, and
a tail of its own; ``labels`` is the network's own pipeline behind its output, in plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

SIZE = (64, 96)
Tail = Callable[[torch.Tensor, torch.Tensor], Any]
Labels = Callable[[Any], torch.Tensor]


@dataclass(frozen=True)
class Head:
    """A way to end a network."""

    tail: Tail
    labels: Labels
    """From what the network gives to its labels at the input's size."""
    channels: int = 5
    """Of the logits that the tail gets."""
    options: dict[str, Any] = field(default_factory=dict)
    """What its user says to export."""
    padded: bool = True
    """Whether the body's convolutions keep the border."""


class Network(nn.Module):
    """A body and a head."""

    def __init__(self, head: Head, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 8, 5, stride=4, padding=2 * head.padded)
        self.body = nn.Conv2d(8, 8, 3, stride=2, padding=int(head.padded))
        self.head = nn.Conv2d(8, head.channels, 1)
        self.tail = head.tail

    def forward(self, image: torch.Tensor) -> Any:
        """What the tail makes of the logits."""
        logits = self.head(F.relu(self.body(F.relu(self.stem(image)))))
        return self.tail(8 * (logits - logits.mean((2, 3), keepdim=True)), image)


def up(logits: torch.Tensor, _image: torch.Tensor | None = None) -> torch.Tensor:
    """To the input's size, as most code does it."""
    return F.interpolate(logits, size=SIZE, mode="bilinear", align_corners=False)


def corners(logits: torch.Tensor, _image: torch.Tensor | None = None) -> torch.Tensor:
    """The same with aligned corners."""
    return F.interpolate(logits, size=SIZE, mode="bilinear", align_corners=True)


def best(output: torch.Tensor) -> torch.Tensor:
    """The class of the largest logit, enlarged where that is left to the user."""
    return up(output).argmax(1)


def above(limit: float) -> Labels:
    """One channel of any shape."""
    return lambda output: (output.float() > limit).long().reshape(1, *SIZE)


def as_is(output: torch.Tensor) -> torch.Tensor:
    """Labels of any shape."""
    return output.long().reshape(1, *SIZE)


def shares(logits: torch.Tensor) -> torch.Tensor:
    """From the least to the largest value of an image, as U2Net does it."""
    return (logits - logits.min()) / (logits.max() - logits.min())


def grey(values: torch.Tensor) -> torch.Tensor:
    """Probabilities as bytes."""
    return (values * 255).round().to(torch.uint8)


def nhwc(logits: torch.Tensor) -> torch.Tensor:
    """Classes last."""
    return logits.permute(0, 2, 3, 1)


_LINEAR = torch.linspace(-1, 1, 25).reshape(5, 5) + torch.eye(5)
_FIVE: dict[str, Any] = {"classes": tuple("abcde")}
_TWO: dict[str, Any] = {"classes": ("background", "thing")}
_last: Labels = lambda v: best(v.permute(0, 3, 1, 2))  # noqa: E731

HEADS: dict[str, Head] = {
    # one channel that is a probability
    "softmax, second class": Head(lambda y, x: up(y).softmax(1)[:, 1:2], above(0.5), 2),
    "softmax, enlarged, second": Head(lambda y, x: up(y.softmax(1))[:, 1:2], above(0.5), 2),
    "1 - softmax's first": Head(lambda y, x: 1 - up(y).softmax(1)[:, :1], above(0.5), 2),
    "least to largest": Head(lambda y, x: shares(up(y)), above(0.5), 1),
    "least to largest, sigmoid": Head(lambda y, x: shares(up(y).sigmoid()), above(0.5), 1),
    "clamp": Head(lambda y, x: (0.3 * up(y) + 0.4).clamp(0, 1), above(0.5), 1),
    "relu6 / 6": Head(lambda y, x: F.relu6(9 * up(y) + 3) / 6, above(0.5), 1),
    "hard sigmoid": Head(lambda y, x: F.hardsigmoid(up(y)), above(0.5), 1),
    "tanh to 0..1": Head(lambda y, x: up(y).tanh() * 0.5 + 0.5, above(0.5), 1),
    "mean of two sigmoids": Head(
        lambda y, x: (up(y[:, :1]).sigmoid() + up(y[:, 1:]).sigmoid()) / 2, above(0.5), 2
    ),
    "stack of sigmoids, mean": Head(
        lambda y, x: torch.stack([up(y[:, i : i + 1]).sigmoid() for i in range(3)]).mean(0),
        above(0.5), 3,
    ),
    "product of sigmoids": Head(
        lambda y, x: up(3 * y[:, :1] + 1).sigmoid() * up(3 * y[:, 1:] + 1).sigmoid(), above(0.5), 2
    ),
    "sigmoid squared": Head(lambda y, x: (up(y) + 1).sigmoid() ** 2, above(0.5), 1),
    "sigmoid, max-pooled": Head(
        lambda y, x: F.max_pool2d(up(y).sigmoid(), 3, 1, 1), above(0.5), 1
    ),
    "sigmoid x 255": Head(lambda y, x: up(y).sigmoid() * 255, above(127.5), 1),
    "least to largest x 255": Head(lambda y, x: shares(up(y)) * 255, above(127.5), 1),
    "x / (1 + x)": Head(lambda y, x: F.relu(2 * up(y)) / (F.relu(2 * up(y)) + 1), above(0.5), 1),
    "largest of softmax, squeezed": Head(
        lambda y, x: up(y).softmax(1)[:, 1:].amax(1), above(0.5), 3
    ),
    "sigmoid, threshold 0.3": Head(
        lambda y, x: up(y).sigmoid(), above(0.3), 1, {"threshold": 0.3}
    ),
    "clamp, threshold 0.3": Head(
        lambda y, x: (0.3 * up(y) + 0.4).clamp(0, 1), above(0.3), 1, {"threshold": 0.3}
    ),
    "logits, threshold 0.4": Head(lambda y, x: up(y), above(0.4), 1, {"threshold": 0.4}),
    "logits": Head(lambda y, x: up(y), above(0.0), 1),
    "logits, averaged": Head(lambda y, x: F.avg_pool2d(up(y), 3, 1, 1), above(0.0), 1),
    "tanh": Head(lambda y, x: up(y).tanh(), above(0.0), 1),
    "distances, not below 0": Head(lambda y, x: F.relu(up(y)) * 3, above(1.5), 1),
    # classes last
    "NHWC x 2": Head(lambda y, x: nhwc(y) * 2, _last),
    "NHWC x 2, named": Head(lambda y, x: nhwc(y) * 2, _last, options=_FIVE),
    "NHWC, linear": Head(lambda y, x: nhwc(y) @ _LINEAR, _last),
    "NHWC, full size, tanh": Head(lambda y, x: nhwc(up(y)).tanh() * 9, lambda v: v.argmax(3)),
    "NHWC, as many as columns": Head(lambda y, x: nhwc(y) + 1, _last, channels=12),
    "H x W x classes": Head(
        lambda y, x: nhwc(y)[0] * 2, lambda v: best(v[None].permute(0, 3, 1, 2))
    ),
    # grids
    "logits at stride 8": Head(lambda y, x: y, best),
    "logits at stride 8, corners": Head(
        lambda y, x: y, lambda v: corners(v).argmax(1), options={"align_corners": True}
    ),
    "probabilities at stride 8": Head(lambda y, x: y.softmax(1), best),
    "probabilities at stride 8, classes last": Head(lambda y, x: nhwc(y).softmax(3), _last),
    "sigmoid at stride 8": Head(
        lambda y, x: y.sigmoid(), lambda v: (up(v) > 0.5).long().reshape(1, *SIZE), 1
    ),
    "second of softmax at stride 8": Head(
        lambda y, x: y.softmax(1)[:, 1:], lambda v: (up(v) > 0.5).long().reshape(1, *SIZE), 2
    ),
    "labels at stride 8": Head(
        lambda y, x: y.argmax(1),
        lambda v: F.interpolate(v[None].float(), size=SIZE, mode="nearest-exact")[0].long(),
        options={"keep_tail": True},
    ),
    "sigmoid, saturated": Head(lambda y, x: (60 * up(y)).sigmoid(), above(0.5), 1),
    "corners to half, then half-pixel": Head(
        lambda y, x: up(F.interpolate(y, scale_factor=4, mode="bilinear", align_corners=True)),
        lambda v: v.argmax(1),
    ),
    "bicubic": Head(
        lambda y, x: F.interpolate(y, size=SIZE, mode="bicubic"), lambda v: v.argmax(1)
    ),
    "pixel shuffle": Head(lambda y, x: F.pixel_shuffle(y, 8), lambda v: v.argmax(1), 64 * 5),
    "no padding": Head(lambda y, x: y, best, padded=False),
    "no padding, classes last": Head(lambda y, x: nhwc(y) * 2, _last, padded=False),
    "no padding, stretched": Head(lambda y, x: up(y), lambda v: v.argmax(1), padded=False),
    "no padding, put back": Head(
        lambda y, x: F.pad(y, (0, 1, 0, 1), mode="replicate"), best, padded=False
    ),
    # labels and bytes
    "labels, H x W": Head(lambda y, x: up(y).argmax(1)[0], as_is, options=_FIVE),
    "labels, 1 x (H W)": Head(lambda y, x: up(y).argmax(1).flatten(1), as_is),
    "labels, N x H x W x 1": Head(lambda y, x: up(y).argmax(1)[..., None], as_is),
    "labels made by where, N x H x W x 1": Head(
        lambda y, x: torch.where(up(y).amax(1) > 0.5, up(y).argmax(1), 0)[..., None], as_is,
        options=_FIVE,
    ),
    "labels from 1 on": Head(lambda y, x: up(y).argmax(1) + 1, as_is, options=_FIVE),
    "labels from 1 on, six names": Head(
        lambda y, x: up(y).argmax(1) + 1, as_is, options={"classes": ("none", *"abcde")}
    ),
    "labels through a table, in float": Head(
        lambda y, x: torch.tensor([2.0, 0, 1, 4, 3])[up(y).argmax(1)], as_is, options=_FIVE
    ),
    "numbers for five names": Head(lambda y, x: up(y).std(1), as_is, options=_FIVE),
    "mask of 0 and 255": Head(
        lambda y, x: torch.where(up(y).std(1) > 1, 255, 0).to(torch.uint8), above(127), 3, _TWO
    ),
    "mask of 0 and 255, N x H x W x 1": Head(
        lambda y, x: (up(y).softmax(1)[:, 1:2] > 0.5).permute(0, 2, 3, 1).to(torch.uint8) * 255,
        above(127), 2, _TWO,
    ),
    "truth values": Head(lambda y, x: up(y).softmax(1)[:, 1:2] > 0.4, as_is, 2, _TWO),
    "probability in bytes": Head(lambda y, x: grey(up(y).sigmoid()), above(127.5), 1, _TWO),
    "probabilities in bytes": Head(
        lambda y, x: grey(up(y).softmax(1)), lambda v: v.argmax(1), options=_FIVE
    ),
    "one-hot": Head(
        lambda y, x: F.one_hot(up(y).argmax(1), 5).permute(0, 3, 1, 2), lambda v: v.argmax(1)
    ),
    # several outputs
    "finest of several": Head(
        lambda y, x: {"edge": up(y)[:, :1], "low": y, "fine": up(y), "copy": up(-y)},
        lambda v: v["fine"].argmax(1), options=_FIVE,
    ),
    "auxiliary first": Head(
        lambda y, x: {"aux": up(-y), "segmentation": up(y)}, lambda v: v["segmentation"].argmax(1)
    ),
    "side outputs": Head(
        lambda y, x: tuple(up(y[:, i : i + 1]).sigmoid() for i in range(4)),
        lambda v: above(0.5)(v[0]), 4,
    ),
    "another task beside it": Head(
        lambda y, x: (up(y)[:, :2], up(y)), lambda v: v[1].argmax(1)
    ),
    # numbers
    "logits in tens of thousands": Head(lambda y, x: 3e4 * up(y), lambda v: v.argmax(1)),
    "two ways, averaged": Head(
        lambda y, x: (up(y).softmax(1) + up(y.flip(3)).flip(3).softmax(1)) / 2,
        lambda v: v.argmax(1),
    ),
}  # fmt: skip


def network(name: str) -> Network:
    """A factory, as users write them."""
    return Network(HEADS[name]).eval()
