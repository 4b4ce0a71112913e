"""Files of the network in other precisions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segedge.card.card import ModelCard
from segedge.card.modelfile import read_metadata, require_card, with_metadata
from segedge.card.proof import PROOF
from segedge.convert.proof import levels_of, prove
from segedge.engine.builder.half import half_graph, network_inputs
from segedge.engine.source import read_source
from segedge.errors import UsageError
from segedge.machine.files import write_atomically
from segedge.measure.evaluate.agreement import check_classes
from segedge.measure.optimize.candidates import Artifact
from segedge.measure.optimize.options import Precision

if TYPE_CHECKING:
    from segedge.precision.int8.quantizer import QuantizeOptions

_WORDS: dict[str, Precision] = {"f32": "fp32", "f16": "fp16", "int8": "int8"}


def given(models: Sequence[Path]) -> list[Artifact]:
    """The user's files, the float model first."""
    found: list[Artifact] = []
    first = require_card(models[0])
    for path in models:
        card = require_card(path)
        try:
            check_classes(first, card)
        except UsageError as error:
            facts = {models[0].name: error.facts["first"], path.name: error.facts["second"]}
            raise UsageError(
                f"{path.name} has other classes than {models[0].name}", facts=facts, fix=error.fix
            ) from error
        precision = "int8" if card.quantization is not None else _stored(path)
        if not found and precision != "fp32":
            raise UsageError(
                f"{path.name} is in {precision} already: there is no float model to compare with",
                fix=f"segedge optimize MODEL.onnx {path.name} --dataset DATASET",
            )
        found.append(Artifact(path, precision, "given" if found else "model"))
    return found


def _stored(path: Path) -> Precision:
    """What a graph without a word about it holds."""
    from segedge.machine.optional import is_importable

    if not is_importable("onnx_ir"):
        return "fp32"
    from segedge.graph.kit import load_model
    from segedge.graph.typed import precision_of

    return _WORDS[precision_of(load_model(path))]


def make_fp16(source: Artifact, folder: Path, images: Sequence[Any] | None) -> Artifact:
    """The network in fp16, where that is safe: its ranges are measured on images, else on noise."""
    made = half_graph(read_source(source.path), keep_fp32=(), images=images)
    out = folder / f"{source.path.stem}.fp16.onnx"
    levels = levels_of(PROOF.read(read_metadata(source.path)))
    proof = prove(made.data, require_card(source.path), precision="f16", levels=levels)
    write_atomically(out, with_metadata(made.data, PROOF.metadata(proof)), durable=True)
    return Artifact(out, "fp16", "made", made.notes[0] if made.notes else "")


def int8_options(backends: Sequence[str], cpu_flags: Sequence[str]) -> QuantizeOptions:
    """How int8 is made for what runs it here.

    For CPUs alone with uint8 activations, which ONNX Runtime needs to compute in integers. 7-bit
    weights where an x86 CPU without VNNI computes: its 16-bit sums of 8-bit products saturate.
    """
    from segedge.precision.int8.quantizer import QuantizeOptions

    on_cpu = [name.partition(":")[0] in ("openvino", "onnxruntime") for name in backends]
    is_x86 = "avx2" in cpu_flags
    has_vnni = any("vnni" in flag for flag in cpu_flags)
    return QuantizeOptions(
        activations="uint8" if all(on_cpu) else "int8",
        weight_bits=7 if any(on_cpu) and is_x86 and not has_vnni else 8,
    )


def make_int8(
    source: Artifact, folder: Path, calibrate: Path | None, options: QuantizeOptions
) -> Artifact:
    """The network in int8, calibrated on images."""
    if calibrate is None:
        raise UsageError("int8 needs images to calibrate on", fix="--calibrate IMAGES")
    from segedge.precision.int8.int8 import quantize

    out = folder / f"{source.path.stem}.int8.onnx"
    report = quantize(source.path, out, calibrate=[calibrate], options=options)
    note = f"{report.images} calibration images, {100 * report.mac_share:.0f} % of the work in int8"
    note += ", 7-bit weights" if options.weight_bits == 7 else ""
    note += ", uint8 activations" if options.activations == "uint8" else ""
    return Artifact(out, "int8", "made", note)


def ranges_images(card: ModelCard, calibrate: Path | None) -> Sequence[Any] | None:
    """Inputs that fp16's ranges are measured on; None without images."""
    return None if calibrate is None else network_inputs(str(calibrate), card)
