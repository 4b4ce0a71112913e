"""Tiny networks with every kind of head that people export, for the tests of convert/."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

SHARED = Path(__file__).resolve().parents[3] / "shared"
MODELS, DATA = SHARED / "models", SHARED / "data"
SIZE = (64, 96)
Tail = Callable[[torch.Tensor, torch.Tensor], Any]


class Tiny(nn.Module):
    """Two convolutions to stride 8, a classifier, and whatever tail is given."""

    def __init__(self, tail: Tail, classes: int = 5, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 8, 5, stride=4, padding=2)
        self.body = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.head = nn.Conv2d(8, classes, 1)
        self.tail = tail

    def forward(self, image: torch.Tensor) -> Any:
        features = F.relu(self.body(F.relu(self.stem(image))))
        logits = self.head(features)
        # Centred, so that every class wins somewhere: a constant answer proves nothing.
        return self.tail(8 * (logits - logits.mean((2, 3), keepdim=True)), image)


def up(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """The usual last line of a forward."""
    return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)


def up_corners(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """The same with aligned corners."""
    return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)


@dataclass
class LogitsObject:
    """What an object with ``.logits`` looks like."""

    logits: torch.Tensor
    loss: None = None


def plain(classes: int = 5) -> Tiny:
    """A factory, as users write them."""
    return Tiny(up, classes)
