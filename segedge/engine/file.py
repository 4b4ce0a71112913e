"""A TensorRT engine on disk: a pure plan that trtexec reads, and a JSON file beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from segedge.card.card import CARD_KEY, ModelCard
from segedge.engine.facts import EngineFacts
from segedge.engine.header import PlanHeader, read_header, split_ultralytics
from segedge.errors import ModelError
from segedge.machine.files import refused, staged

ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
"""File names that are taken for engines."""
_REBUILD = "build it again: segedge build MODEL.onnx -o {}"


@dataclass(frozen=True)
class EngineFile:
    """An engine that was read and found whole."""

    path: Path
    plan: bytes = field(repr=False)
    """The serialised engine, without anything before it."""
    header: PlanHeader
    facts: EngineFacts | None
    """What the file beside it says; None where there is none."""
    card: ModelCard | None
    metadata: dict[str, str]
    """Metadata that stood before the plan (Ultralytics), else empty."""


def is_engine(path: str | Path) -> bool:
    """Whether a file is named like an engine."""
    return Path(path).suffix.lower() in ENGINE_SUFFIXES


def facts_path(path: str | Path) -> Path:
    """The JSON file beside a plan: ``model.engine.json``."""
    return Path(f"{path}.json")


def kernels_path(path: str | Path) -> Path:
    """Where TensorRT-RTX's compiled kernels are kept beside a plan: ``model.engine.kernels``."""
    return Path(f"{path}.kernels")


def read_engine(path: str | Path) -> EngineFile:
    """Read an engine and check that it is whole; it is not loaded, and nothing in it runs."""
    file = Path(path)
    fix = "segedge build MODEL.onnx -o model.engine makes an engine"
    with refused(f"{file.name} cannot be read", ModelError, fix=fix):
        data = file.read_bytes()
    plan, metadata = split_ultralytics(data)
    header = read_header(plan, name=file.name)
    facts = read_facts_beside(file)
    _check_whole(file, plan, header, facts)
    card = facts.card if facts else _card_of(metadata)
    return EngineFile(file, plan, header, facts, card, metadata)


def read_facts_beside(path: Path) -> EngineFacts | None:
    """The facts beside a plan, or None where there is no such file."""
    beside = facts_path(path)
    if not beside.is_file():
        return None
    try:
        text = beside.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{beside.name} cannot be read", facts={"found": str(error)}) from error
    return EngineFacts.from_json(text, name=beside.name)


def engine_card(path: str | Path) -> ModelCard | None:
    """The card of an engine, without reading the plan further than its header."""
    file = Path(path)
    facts = read_facts_beside(file)
    return facts.card if facts else read_engine(file).card


def write_engine(path: str | Path, plan: bytes, facts: EngineFacts) -> None:
    """Write a plan and the facts beside it, both or neither.

    On OSError what was there before is there still.
    """
    file = Path(path)
    # The facts appear first: a plan that appears is always described, and a stale description is
    # found out by its SHA-256.
    with staged(file) as plan_part, staged(facts_path(file)) as facts_part:
        plan_part.write_bytes(plan)
        facts_part.write_text(facts.to_json(), encoding="utf-8")


def sha256(*parts: bytes) -> str:
    """SHA-256 of some bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _check_whole(file: Path, plan: bytes, header: PlanHeader, facts: EngineFacts | None) -> None:
    expected = facts.plan_bytes if facts else header.length
    if expected is not None and len(plan) < expected:
        raise ModelError(
            f"{file.name} is truncated",
            facts={"found": f"{len(plan)} bytes", "expected": f"{expected} bytes"},
            fix=_REBUILD.format(file.name),
        )
    if facts is None:
        return
    found = sha256(plan)
    if found != facts.plan_sha256:
        raise ModelError(
            f"{file.name} is corrupt, or is not the engine that {facts_path(file).name} describes",
            facts={"found": f"SHA-256 {found[:16]}", "expected": facts.plan_sha256[:16]},
            fix=_REBUILD.format(file.name),
        )


def _card_of(metadata: dict[str, str]) -> ModelCard | None:
    return ModelCard.from_metadata(metadata) if CARD_KEY in metadata else None
