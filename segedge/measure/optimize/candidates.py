"""What is tried: each precision of the network on each backend that can compute it here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from segedge.errors import UsageError, unknown_name_error
from segedge.measure.bench.names import PROGRAMS, TAIL, choose_backends
from segedge.measure.optimize.options import PRECISIONS, Precision

_VARIANTS: dict[str, dict[str, Precision]] = {
    "openvino": {"f32": "fp32", "bf16": "bf16", "f16": "fp16"},
    "tensorrt": {"fp32": "fp32", "fp16": "fp16", "int8": "int8"},
}
"""Backend to its variants that choose the arithmetic, whatever the file says."""
_PROVIDERS = {"onnxruntime-cuda": ("cuda", "tensorrt")}


@dataclass(frozen=True)
class Artifact:
    """A file of the network in the precision that its graph says.

    It is the float ``model``, ``given`` by the user, or ``made`` here, as the note says.
    """

    path: Path
    precision: Precision
    origin: str
    note: str = ""

    @property
    def size_bytes(self) -> int:
        """Of the file, without weights in a file beside it."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class Candidate:
    """A file on a backend as `segedge.load` takes it: ``openvino:f32``.

    The precision is what computes: bf16 is the float file with a backend that rounds. The label has
    the file's name, too, where several files have it.
    """

    artifact: Artifact
    backend: str
    precision: Precision
    label: str

    @property
    def name(self) -> str:
        """``int8 on openvino``."""
        return f"{self.label} on {self.backend}"


Skipped = dict[str, str]
"""Candidate or backend to why it is not measured."""


def choose(asked: Sequence[str]) -> tuple[list[str], Skipped]:
    """The backends to try and why the others are not; of no names, or ``all``: those of `auto`."""
    names = [] if "all" in asked else list(dict.fromkeys(asked))
    for name in names:
        _check(name)
    return choose_backends(names)


def _check(name: str) -> None:
    base, _, variant = name.removesuffix(TAIL).partition(":")
    if name.endswith(TAIL) or base in (*PROGRAMS, "remote"):
        raise UsageError(
            f"segedge optimize tries files that segedge run takes, not {name}",
            fix="--backend openvino, onnxruntime or tensorrt; segedge bench measures the others",
        )
    known = [*_VARIANTS.get(base, {}), *_PROVIDERS.get(base, ())]
    if variant and known and variant not in known:
        raise unknown_name_error(f"variant of {base}", variant, known)
    if variant and not known and base in ("onnxruntime",):
        raise UsageError(f"backend {base} has no variants, found {name}", fix=f"--backend {base}")


def needed(backends: Sequence[str], precisions: Sequence[Precision]) -> set[Precision]:
    """The precisions in which a file of its own is needed: TensorRT converts to fp16 itself."""
    bases = {name.partition(":")[0] for name in backends}
    files: set[Precision] = {"int8"} if backends else set()
    if bases - {"tensorrt"}:
        files.add("fp16")
    return files & set(precisions)


def plan(
    artifacts: Sequence[Artifact], backends: Sequence[str], precisions: Sequence[Precision], *,
    abilities: Collection[str] = (),
) -> tuple[list[Candidate], Skipped]:  # fmt: skip
    """Every file (the float model first) on every backend, in the precisions that are wanted.

    The most exact first. fp32 is taken in on the first backend in any case, bf16 where OpenVINO
    says that it can (`openvino_abilities`).
    """
    found: dict[tuple[Path, str], Candidate] = {}
    skipped: Skipped = {}
    for name in backends:
        for artifact in artifacts:
            for backend, precision in _ways(artifact, name):
                wanted = precision in precisions or artifact.origin == "given"
                if not wanted and not _is_baseline(precision, found):
                    continue
                candidate = Candidate(artifact, backend, precision, _label(artifact, artifacts))
                if precision == "bf16":
                    candidate = Candidate(artifact, backend, precision, "bf16")
                    if "BF16" not in abilities and ":" not in name:
                        skipped[candidate.name] = "OpenVINO does not compute in bf16 on this CPU"
                        continue
                found.setdefault((artifact.path, backend), candidate)
    order = {name: number for number, name in enumerate(PRECISIONS)}
    return sorted(found.values(), key=lambda one: order[one.precision]), skipped


def _is_baseline(precision: Precision, found: dict[tuple[Path, str], Candidate]) -> bool:
    """Something in fp32 is measured in any case, once."""
    return precision == "fp32" and all(one.precision != "fp32" for one in found.values())


def _ways(artifact: Artifact, name: str) -> list[tuple[str, Precision]]:
    """How a backend may compute a file, with the precision that this gives."""
    base, _, variant = name.partition(":")
    is_float = artifact.precision == "fp32"
    if base in _VARIANTS and variant:
        own = _VARIANTS[base][variant]
        if base == "tensorrt" and (own == "int8") != (artifact.precision == "int8"):
            return []
        return [(name, own if is_float else artifact.precision)]
    if base == "tensorrt":
        if is_float:
            return [("tensorrt:fp32", "fp32"), ("tensorrt:fp16", "fp16")]
        return [("tensorrt:int8", "int8")] if artifact.precision == "int8" else []
    if base == "openvino" and is_float:
        return [("openvino:f32", "fp32"), ("openvino:bf16", "bf16")]
    return [(name, artifact.precision)]


def _label(artifact: Artifact, artifacts: Sequence[Artifact]) -> str:
    alike = [one for one in artifacts if one.precision == artifact.precision]
    return f"{artifact.precision} {artifact.path.name}" if len(alike) > 1 else artifact.precision
