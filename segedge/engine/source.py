"""The ONNX file that an engine is built from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from segedge.card.card import ModelCard
from segedge.card.modelfile import read_facts
from segedge.card.proof import PROOF_KEY
from segedge.engine.file import sha256
from segedge.errors import ModelError


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

    @property
    def origin(self) -> str:
        """Hash of where the file lies: two contents of one path are two versions of one model."""
        return hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:16]


def read_source(model: str | Path) -> EngineSource:
    """Read an ONNX file."""
    path = Path(model)
    facts = read_facts(path)
    try:
        data = path.read_bytes()
        beside = facts.external_data.read_bytes() if facts.external_data else b""
    except OSError as error:
        raise ModelError(
            f"{path.name} cannot be read", facts={"found": error.strerror or str(error)}
        ) from error
    card, proof = ModelCard.from_metadata(facts.metadata), facts.metadata.get(PROOF_KEY, "")
    return EngineSource(path, data, sha256(data, beside), card, proof)


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
    return source
