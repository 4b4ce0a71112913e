"""What a card carries of the past: where a network is from, what was measured, what was changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Provenance:
    """Where the network came from."""

    source: str = ""
    """What was exported, without folders: ``nets.py:pidnet_s``, ``model.pt2``, ``adopted.onnx``."""
    checkpoint_sha256: str = ""
    """SHA-256 of the checkpoint file, or of the source file where there is none."""
    torch: str = ""
    """Version of PyTorch that exported it."""
    exporter: str = ""
    """Who wrote the graph, e.g. ``torch.onnx dynamo, opset 20``."""
    segedge: str = ""
    """Version of segedge that wrote the card."""


@dataclass(frozen=True)
class OwnWay:
    """What the original's own way from an image gives, told apart by where it differs."""

    name: str
    """Who prepared the images (and made the labels) without this package."""
    whole: float | None = None
    """Share of pixels with the same label, from image to label, 0..1; None where the own way ends
    at the network's input."""
    preprocessing: float | None = None
    """The same where only preprocessing differs."""
    after: float | None = None
    """The same where only the network's rounding and the enlarging of its logits differ."""
    levels: float = 0.0
    """Largest difference of a value of the network's input, in grey levels."""

    def __str__(self) -> str:
        near = f"network's input within {self.levels:.2g} grey levels"
        if self.whole is None or self.preprocessing is None or self.after is None:
            return f"{self.name}: {near}"
        return (
            f"{self.name}: pixels equal {100 * self.whole:.3f} %, image to label "
            f"(preprocessing {100 * self.preprocessing:.3f} %, {near}; "
            f"network and enlarging {100 * self.after:.3f} %)"
        )


@dataclass(frozen=True)
class Parity:
    """What was measured when the exported model ran beside the original."""

    images: int
    """How many images were compared."""
    kind: Literal["images", "noise"]
    """Whether they were real images or random noise."""
    agreement: float
    """Share of unambiguous pixels with the same label, 0..1."""
    ambiguous: float
    """Share of pixels whose top-2 margin is below 1e-4 of the logit range, 0..1."""
    max_logit_error: float | None
    """Largest absolute difference of the logits (or probabilities, where the original gives those);
    None where the original gives nothing but labels."""
    sizes: tuple[str, ...] = ()
    """Input sizes at which it was measured, ``HxW``."""
    logit_range: float | None = None
    """From the lowest to the highest of these; None where that was not measured."""
    way: OwnWay | None = None
    """The original's own way to prepare images; None where it was not compared."""


@dataclass(frozen=True)
class Quantization:
    """How a network was quantized to int8, and what that cost."""

    method: str
    """How ranges were chosen: minmax, percentile, entropy or mse."""
    weight_bits: int
    """8, or 7 where the CPU's integer kernels shall not saturate."""
    images: int
    """How many images it was calibrated on."""
    images_sha256: str
    """Over the SHA-256 of each file's contents, in order."""
    layers: int
    """How many layers compute in int8."""
    kept: tuple[str, ...]
    """Names of the convolutions that stay float."""
    mac_share: float
    """Share of the convolutions' multiplications that int8 layers do, 0..1."""
    metric: Literal["miou", "agreement"]
    """What was measured: mean IoU on labelled images, or pixels with the float network's label."""
    judge: str
    """On what: simulated, or the name of a backend."""
    float_score: float
    """The float network's score, 0..1."""
    score: float
    """The quantized network's score, 0..1."""
    judged_on: str
    """The data, e.g. ``camvid/val, 101 images``."""
    max_drop: float | None = None
    """The bound that was asked for, in points; None where there was none."""
    corrections: tuple[str, ...] = ()
    """What was done to lose less, in words: equalised channels, corrected biases."""
    activations: str = "int8"
    """``int8`` with zero points of 0, or ``uint8`` for CPUs."""


@dataclass(frozen=True)
class Adaptation:
    """How a network was fitted to a camera without labels, and what that changed."""

    images: int
    """How many images its statistics were taken from, those held back to judge included."""
    images_sha256: str
    """Over their pixels, in order."""
    statistics: str
    """Where the statistics that they were compared with are from: ``BatchNorm``, ``24 images``."""
    layers: int
    """How many layers were moved."""
    share: float
    """How far, 0..1: 1 is all the way to the statistics of these images."""
    information: tuple[float, float]
    """What the answers tell of the classes on images held back, in nats, before and after."""
    confidence: tuple[float, float]
    """Mean probability of the label on images held back, before and after."""
    miou: tuple[float, float] | None = None
    """Mean IoU 0..1 before and after, where labelled images decided."""
    judged_on: str = ""
    """Those, e.g. ``camvid/val, 51 images``."""
