"""Tiny networks that were exported with their proof."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

import segedge
from segedge.backends.onnxruntime import OnnxRuntimeBackend
from segedge.card.attachments import PROOF_KEY
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.labels import distinct_palette
from segedge.card.modelfile import read_card, read_metadata, with_metadata
from segedge.card.picture import Picture
from segedge.card.proof import PROOF, Proof
from segedge.convert.proof import prove
from segedge.segment.check import Prover
from segedge.segment.checked import Checked
from tests import networks
from tests.built import built

SIZE = Size(64, 96)
CLASSES = 5


class Network(nn.Module):
    """Two strided convolutions and a classifier, with something in between and a usual tail."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor], corners: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.body = nn.Conv2d(12, 12, 3, stride=2, padding=1)
        self.between, self.corners = between, corners
        self.head = nn.Conv2d(12, CLASSES, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.between(F.relu(self.body(F.relu(self.stem(image)))))
        logits = self.head(features)
        logits = 8 * (logits - logits.mean((2, 3), keepdim=True))
        return F.interpolate(
            logits, size=image.shape[-2:], mode="bilinear", align_corners=self.corners or None
        )


class Varied(nn.Module):
    """An operator of every kind that segmentation networks have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=12)
        self.mix = nn.Conv2d(12, 12, 1)
        self.deep = nn.Conv2d(12, 12, 3, stride=2, padding=1)
        self.gate = nn.Conv2d(12, 12, 1)
        self.head = nn.Conv2d(24, CLASSES, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        shallow = F.leaky_relu(self.stem(image), 0.1)
        shallow = F.relu6(6 * self.mix(self.depthwise(shallow)) + 1)
        shallow = F.avg_pool2d(shallow, 3, 2, 1)
        deep = F.max_pool2d(F.relu(self.deep(shallow)), 3, 2, 1)
        deep = deep * torch.sigmoid(8 * self.gate(deep.mean((2, 3), keepdim=True)))
        deep = F.interpolate(deep, size=shallow.shape[-2:], mode="bilinear")
        logits = self.head(torch.cat([shallow, deep], 1))
        logits = 8 * (logits - logits.mean((2, 3), keepdim=True))
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)


def antialiased(features: torch.Tensor) -> torch.Tensor:
    """What OpenVINO 2026.4 computes without the antialias, where export cannot rewrite it."""
    return F.interpolate(features, scale_factor=0.5, mode="bilinear", antialias=True)


def ceiled_pool(features: torch.Tensor) -> torch.Tensor:
    """What OpenVINO 2026.4 divides by other counts, where the last window hangs over."""
    return F.avg_pool2d(features, 3, 2, 1, ceil_mode=True)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Network(nn.Identity(), corners=False),
    "antialiased": lambda: Network(antialiased, corners=False),
    "any_size": lambda: Network(antialiased, corners=False),
    "ceiled": lambda: Network(ceiled_pool, corners=False),
    "varied": Varied,
}


@functools.cache
def exported(name: str) -> Path:
    """A network of these as ``<name>.onnx``, not to be changed."""
    package = Path(segedge.__file__).parent
    rooms = ("convert", "card", "reference")
    sources = [
        path.read_text() for room in rooms for path in sorted((package / room).rglob("*.py"))
    ]
    libraries = [version(library) for library in ("torch", "onnx", "onnxruntime")]
    return built(
        f"{name}.onnx",
        lambda path: segedge.export(
            NETWORKS[name]().eval(),
            path,
            options=segedge.ExportOptions(
                size=SIZE, dynamic=("size",) if name == "any_size" else ()
            ),
        ),
        key=[*sources, *libraries, Path(__file__).read_text(), name],
    )


def card_and_proof(path: Path) -> tuple[ModelCard, Proof]:
    card, proof = read_card(path), PROOF.read(read_metadata(path))
    assert card is not None
    assert proof is not None
    return card, proof


def looked(path: Path, *, card: ModelCard | None = None, wrap: Any = None) -> Checked:
    """What comes of the pictures on ONNX Runtime, whatever is known of the file."""
    own, proof = card_and_proof(path)
    backend: Any = OnnxRuntimeBackend(path, threads=1)
    prover = Prover(path, card or own, proof, "", threads=1)
    found = prover.look("onnxruntime", wrap(backend) if wrap else backend)
    backend.close()
    assert found is not None
    return found


def with_proof(data: bytes, card: ModelCard, path: Path) -> Path:
    """Write a file with a card and a proof by what it computes itself."""
    proof = prove(data, card)
    assert len(PROOF.metadata(proof)[PROOF_KEY]) <= 64_000
    path.write_bytes(with_metadata(data, {**card.to_metadata(), **PROOF.metadata(proof)}))
    return path


def of_the_zoo(name: str, dynamic: networks.Dynamic | None, folder: Path) -> Path:
    """A network of the zoo with a card and a proof of its own."""
    height, width = networks.size_of(name)
    classes = tuple(f"class {number}" for number in range(networks.CLASSES))
    card = ModelCard(classes, distinct_palette(len(classes)), height, width, output="logits")
    data = networks.export_tiny(name, dynamic=dynamic).read_bytes()
    return with_proof(data, card, folder / f"{name}-{dynamic}.onnx")


def picture(seed: int = 9) -> NDArray[np.uint8]:
    return Picture(SIZE.height, SIZE.width, seed).pixels()
