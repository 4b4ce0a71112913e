"""int8 in the graph: a float32 ONNX network in, the same with explicit symmetric Q/DQ nodes out.

TensorRT, ONNX Runtime and OpenVINO all read where int8 is meant from QuantizeLinear and
DequantizeLinear nodes, and each is strict in another way: TensorRT takes zero points of 0 only and
float biases; ONNX Runtime computes a Conv in integers only between a DQ before and a Q behind it.
So the placement is our own, and one file is right for all three (`place`).

Why not ONNX Runtime's quantizer? It ties calibration to its own data reader and placement: no
scale shared over sums and Concats but through per-tensor overrides, and int32 biases, which
TensorRT refuses.

Files: ``images`` finds the images, ``place`` decides, ``calibrate`` and ``ranges`` measure,
``equalize`` rescales channels, ``rewrite`` rewrites, ``error`` compares; ``quantizer`` holds what
they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.card.plain import to_plain
from segedge.convert.onnx_card import check_output
from segedge.precision.int8.correct import correct
from segedge.precision.int8.quantizer import (
    LayerChoice,
    Progress,
    QuantizeOptions,
    Quantizer,
    mac_share,
)
from segedge.precision.int8.ranges import Method


@dataclass(frozen=True)
class QuantizeReport:
    """What was done, and what it cost on the calibration images."""

    out: Path
    """The file that was written."""
    size_bytes: int
    """Its size."""
    source_bytes: int
    """Size of the float file."""
    method: Method
    """How the ranges were chosen."""
    tried: dict[str, float]
    """Agreement with the float network of each that was tried, 0..1, by method and correction."""
    taken: str
    """Which of them was taken."""
    corrections: tuple[str, ...]
    """What was done to lose less, in words."""
    agreement: float
    """Share of the logit grid's points with the float network's label, simulated, 0..1."""
    logit_error: float
    """Root mean square error of the logits, relative to their standard deviation, simulated."""
    layers: tuple[LayerChoice, ...]
    """Every Conv and ConvTranspose, in the order of the graph."""
    images: int
    """Calibration images used."""
    images_sha256: str
    """Hash over their contents."""
    warnings: tuple[str, ...] = ()
    """What a person should know, in sentences."""

    @property
    def mac_share(self) -> float:
        """Share of the convolutions' multiplications that int8 layers do, 0..1."""
        return mac_share(self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**to_plain(self), "mac_share": self.mac_share}


def quantize(
    model: Path,
    out: Path,
    *,
    calibrate: Sequence[str | Path],
    options: QuantizeOptions | None = None,
    progress: Progress | None = None,
) -> QuantizeReport:
    """Quantize a network to int8, calibrated on images through its deployed preprocessing."""
    check_output(out, source=model)
    quantizer = Quantizer.calibrate(
        model, calibrate, options=options or QuantizeOptions(), progress=progress
    )
    reference = quantizer.reference()
    found = correct(quantizer, reference, progress=progress)
    quantizer, best, error = found.quantizer, found.method, found.error
    choices = quantizer.choices({})
    record = quantizer.record(
        best, choices, metric="agreement", judge="simulated", float_score=1.0,
        score=error.agreement, judged_on=f"{reference.count} calibration images",
    )  # fmt: skip
    size = quantizer.write(quantizer.network(best), out, record)
    return QuantizeReport(
        out=out,
        size_bytes=size,
        source_bytes=model.stat().st_size,
        method=best,
        tried={name: tried.agreement for name, tried in found.tried.items()},
        taken=found.taken,
        corrections=quantizer.corrections,
        agreement=error.agreement,
        logit_error=error.logit_error,
        layers=choices,
        images=quantizer.images.count,
        images_sha256=quantizer.images.sha256,
        warnings=quantizer.images.warnings(),
    )
