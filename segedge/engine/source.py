"""The ONNX file that an engine is built from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from segedge.card.attachments import FAMILIAR_KEY, PROOF_KEY
from segedge.card.card import ModelCard
from segedge.card.modelfile import read_facts
from segedge.engine.file import sha256
from segedge.errors import ModelError
from segedge.machine.files import refused


@dataclass(frozen=True)
class EngineSource:
    """An ONNX file, its bytes and its card."""

    path: Path
    data: bytes = field(repr=False)
    sha256: str
    """Of the file, and of the weights file beside it where there is one."""
    card: ModelCard | None
    proof: str = field(default="", repr=False)
    """What the file's metadata holds under `PROOF_KEY`, which is read where it is needed."""
    familiar: str = field(default="", repr=False)
    """What it holds under `FAMILIAR_KEY`."""

    @property
    def origin(self) -> str:
        """Hash of where the file lies: two contents of one path are two versions of one model."""
        return hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:16]


def read_source(model: str | Path) -> EngineSource:
    """Read an ONNX file."""
    path = Path(model)
    facts = read_facts(path)
    with refused(f"{path.name} cannot be read", ModelError):
        data = path.read_bytes()
        beside = facts.external_data.read_bytes() if facts.external_data else b""
    told = facts.metadata
    return EngineSource(
        path, data, sha256(data, beside), ModelCard.from_metadata(told),
        proof=told.get(PROOF_KEY, ""), familiar=told.get(FAMILIAR_KEY, ""),
    )  # fmt: skip


def read_buildable(model: str | Path) -> EngineSource:
    """`read_source` of what TensorRT takes."""
    source = read_source(model)
    record = source.card.quantization if source.card else None
    if record is not None and record.activations == "uint8":
        raise ModelError(
            f"{source.path.name} was quantized for CPUs: TensorRT takes zero points of 0 only",
            facts={"found": "uint8 activations"},
            fix="segedge quantize MODEL --calibrate IMAGES, without --activations uint8",
        )
    if b"QuantizeLinear" in source.data:
        _check_codes(source)
    return source


_SYMMETRIC = {
    "onnx.quantize": "onnxruntime's quantize_static(..., activation_type=QuantType.QInt8, "
    "weight_type=QuantType.QInt8, extra_options={'ActivationSymmetric': True, "
    "'WeightSymmetric': True})",
    "aimet": "AIMET's is_symmetric: True for op_type, params and model_output in its config",
    "": "quantize the float network again: segedge quantize MODEL --calibrate IMAGES, or by "
    "onnxruntime's quantize_static with QInt8 and extra_options={'ActivationSymmetric': True}",
}
"""What makes signed codes with zero points of 0, by a word in the name of the tool."""


def _check_codes(source: EngineSource) -> None:
    """Refuse codes other than int8 about 0.

    TensorRT refuses the zero points itself, but takes uint8 for int8: all above half of the range
    would be cut off without a word.
    """
    import numpy as np  # a float network is built without

    from segedge.graph.kit import constant, load_model

    nodes = [node for node in load_model(source.path).graph if node.op_type == "QuantizeLinear"]
    kinds = []
    for node in nodes:
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        codes = np.zeros(1, np.uint8) if zero is None else constant(zero)
        if codes is None:
            return  # made by a node: TensorRT will say what it thinks of that
        if codes.dtype == np.uint8 or codes.any():
            kinds.append((node.name, codes.dtype.name, int(codes.flat[0])))
    if not kinds:
        return
    name, dtype, zero_point = kinds[0]
    producer = read_facts(source.path).producer if source.card is None else ""
    maker = source.card.provenance.exporter if source.card else producer
    raise ModelError(
        f"{source.path.name} is quantized to other codes than TensorRT takes",
        facts={
            "found": f"{dtype} with a zero point of {zero_point} at {name or 'a QuantizeLinear'}, "
            f"one of {len(kinds)} such among {len(nodes)}",
            "expected": "int8 with zero points of 0",
            "quantized by": maker or "a tool that does not name itself",
        },
        fix=next(text for word, text in _SYMMETRIC.items() if word in maker.lower()),
    )
