"""`segedge inspect`: what a model file holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from segedge.backends.registry import open_backend
from segedge.backends.remote.address import address_text, is_address
from segedge.card.attachments import PROOF_KEY
from segedge.card.card import CARD_KEY, ModelCard
from segedge.card.modelfile import ModelFacts, card_command, graph_sha256, read_facts
from segedge.card.proof import PROOF
from segedge.card.records import Adaptation, Quantization
from segedge.cli.console import print_json, print_prose, print_row
from segedge.cli.options import AsJson
from segedge.cli.verbs.engine_rows import inspect_engine
from segedge.engine.file import is_engine
from segedge.errors import SegedgeError
from segedge.machine.files import megabytes
from segedge.segment.checked import WRONG_WEIGHTS

if TYPE_CHECKING:
    from segedge.backends.base import Backend
    from segedge.backends.remote.backend import RemoteBackend


def inspect_command(
    file: Annotated[Path, typer.Argument(help="The model file, or grpc://HOST:8001/MODEL.")],
    as_json: AsJson = False,
) -> None:
    """Show the card, inputs, outputs, measured parity and size of a model file.

    Of a TensorRT engine: who built it and for which GPU, its layers with precisions, formats and
    sizes, and what stayed fp32. Of an address: what the server says of the model.
    """
    if is_address(file):
        _inspect_served(file, as_json=as_json)
        return
    if is_engine(file):
        inspect_engine(file, as_json=as_json)
        return
    facts = read_facts(file)
    card = ModelCard.from_metadata(facts.metadata)
    tensors = _tensors(file)
    if as_json:
        print_json(_as_data(facts, card, tensors))
        return
    print_row("file", f"{file.name}  {megabytes(facts.size_bytes)}, ONNX opset {facts.opset}")
    if facts.producer:
        print_row("producer", facts.producer)
    for label, texts in tensors.items():
        for text in texts:
            print_row(label, text)
    if card is None:
        _print_no_card(file, facts)
        return
    _print_card(card)
    print_prose("proof", _proof_text(facts.metadata, file))
    print_row("next", f"segedge run {file} video.mp4 -o out.mp4")


def _proof_text(metadata: dict[str, str], file: Path) -> str:
    """What the file can be checked by, and whether it is still the file that was proved."""
    proof = PROOF.read(metadata)
    if proof is None:
        return f"none: segedge prove {file}"
    points = sum(int((one.label_at_points >= 0).sum()) for one in proof.answers)
    margins = sum(one.margin_at_points.size for one in proof.answers)
    text = (
        f"{len(proof.answers)} pictures at {proof.network}, {proof.precision}: {points} labels and"
        f" {margins} margins by {proof.witness}; {len(metadata[PROOF_KEY]) / 1e3:.0f} kB"
    )
    return text if graph_sha256(file) == proof.graph_sha256 else f"{text}; {WRONG_WEIGHTS}"


def _inspect_served(address: Path, *, as_json: bool) -> None:
    backend = cast("RemoteBackend", open_backend(address, "auto").backend)
    card, text, server = backend.card, address_text(address), backend.description
    tensors = _specs_text(backend)
    backend.close()
    if as_json:
        shown = None if card is None else json.loads(card.to_json())
        print_json({"address": text, "server": server, "tensors": tensors, "card": shown})
        return
    print_row("server", server)
    for label, lines in tensors.items():
        for line in lines:
            print_row(label, line)
    if card is None:
        print_row("card", "the server tells none: --card model.onnx")
    else:
        _print_card(card)
    print_row("next", f"segedge run {text} video.mp4 -o out.mp4")


def _tensors(file: Path) -> dict[str, list[str]]:
    """Inputs and outputs as an installed backend reports them."""
    try:
        backend = open_backend(file, "auto").backend
    except SegedgeError as error:
        return {"tensors": [f"unknown: {error.headline}"]}
    tensors = _specs_text(backend)
    backend.close()
    return tensors


def _specs_text(backend: Backend) -> dict[str, list[str]]:
    inputs, outputs = backend.specs
    return {"input": [str(spec) for spec in inputs], "output": [str(spec) for spec in outputs]}


def _print_no_card(file: Path, facts: ModelFacts) -> None:
    print_row("card", "none: classes and preprocessing are unknown")
    others = [key for key in facts.metadata if key != CARD_KEY]
    if others:
        print_row("metadata", ", ".join(others[:12]))
    print_row("next", card_command(file))


def _print_card(card: ModelCard) -> None:
    name = f"{card.label_set}: " if card.label_set else ""
    print_row("classes", f"{len(card.classes)}  {name}{_shortened(card.classes)}")
    size = f"{card.input_height}x{card.input_width}"
    dynamic = f", dynamic {' and '.join(card.dynamic)}" if card.dynamic else ""
    fit = card.fit if card.scaling is None else f"{card.scaling}, then {card.fit}"
    print_row("frame", f"{fit} to {size} ({card.resize}), {card.color.upper()}{dynamic}")
    print_row("normalise", f"mean {_numbers(card.mean)}  std {_numbers(card.std)}  (of 0..1)")
    print_row("head", _head_text(card))
    print_row("parity", _parity_text(card))
    for caveat in card.caveats:
        print_row("backends", caveat)
    if card.parity is not None and card.parity.way is not None:
        print_row("own way", str(card.parity.way))
    origin = card.provenance
    if origin.source:
        checkpoint = (
            f", SHA-256 {origin.checkpoint_sha256[:12]}" if origin.checkpoint_sha256 else ""
        )
        print_row("made from", f"{origin.source}{checkpoint}")
    if origin.exporter:
        torch = f"torch {origin.torch}, " if origin.torch else ""
        print_row("made by", f"{torch}{origin.exporter}, segedge {origin.segedge}")
    if card.pillow_resample is not None:
        print_row("resample", f"Pillow code {card.pillow_resample}")
    if card.padded_at_end:
        print_row("resize_type", "was padded right and below")
    if card.mask_scale is not None:
        print_row("masks", f"summed to classes in the graph, enlarged x{card.mask_scale} before")
    if card.probabilities:
        print_row("logits", "probabilities")
    if card.quantization is not None:
        print_row("precision", card.precision)
        _print_quantization(card.quantization)
    if card.adaptation is not None:
        _print_adaptation(card.adaptation)


def _print_adaptation(record: Adaptation) -> None:
    before, after = record.confidence
    gain = f"confidence {before:.2f} to {after:.2f}"
    if record.miou is not None:
        gain = f"mIoU {100 * record.miou[0]:.2f} to {100 * record.miou[1]:.2f}, {record.judged_on}"
    print_row(
        "adapted",
        f"{100 * record.share:.0f} % of the way to {record.images} images, SHA-256 "
        f"{record.images_sha256[:12]}, {record.layers} layers; {gain}",
    )


def _print_quantization(record: Quantization) -> None:
    print_row(
        "int8",
        f"{record.layers} layers, {100 * record.mac_share:.1f} % of the convolutions' work, "
        f"{len(record.kept)} stayed float; weights of {record.weight_bits} bits, "
        f"activations {record.activations}",
    )
    print_row(
        "calibrated",
        f"{record.method} on {record.images} images, SHA-256 {record.images_sha256[:12]}",
    )
    if record.corrections:
        print_row("corrected", ", ".join(record.corrections))
    what = "mIoU" if record.metric == "miou" else "agreement with float"
    print_row(
        "judged",
        f"{what} {100 * record.score:.2f}, float {100 * record.float_score:.2f}, on "
        f"{record.judged_on} ({record.judge})",
    )


def _head_text(card: ModelCard) -> str:
    if card.head == "labels":
        return f"labels, stride {card.stride}"
    alignment = "align corners" if card.align_corners else "half-pixel"
    return (
        f"logits, {card.channels} channels at stride {card.stride}, {alignment}, {card.activation}"
    )


def _parity_text(card: ModelCard) -> str:
    parity = card.parity
    if parity is None:
        return "not measured"
    sizes = f" at {', '.join(parity.sizes)}" if parity.sizes else ""
    what = "images" if parity.kind == "images" else "noise images"
    text = (
        f"{parity.images} {what}{sizes}: pixels equal {parity.agreement * 100:.3f} %, "
        f"ambiguous {parity.ambiguous * 100:.3f} %"
    )
    if parity.max_logit_error is None:
        return text
    return f"{text}, max logit error {parity.max_logit_error:.1e}"


def _shortened(names: tuple[str, ...], most: int = 12) -> str:
    more = f" ... ({len(names) - most} more)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _as_data(
    facts: ModelFacts, card: ModelCard | None, tensors: dict[str, list[str]]
) -> dict[str, Any]:
    return {
        "file": facts.path.name,
        "size_bytes": facts.size_bytes,
        "opsets": facts.opsets,
        "producer": facts.producer,
        "tensors": tensors,
        "card": None if card is None else json.loads(card.to_json()),
        "metadata_keys": sorted(facts.metadata),
    }
