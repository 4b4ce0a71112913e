"""The first bytes of a plan: whose it is, which version, how long, for which GPUs.

A plan begins with 64 bytes that can be read without a GPU and without TensorRT:

    0   4  ``ftrt``: TensorRT; ``vtrt``: TensorRT-RTX (little-endian tag)
    4   4  version of the serialisation, 0
    16  8  TensorRT-RTX: length of the whole plan, little-endian
    24  4  version of the library: major, minor, patch, build, one byte each
    32  8  TensorRT-RTX: bit mask of target GPUs: sm_75, 80, 86, 89, 120, 121, later ones

Tag and version are those that trtexec prints (``printPlanVersion`` in NVIDIA's
samples/common/sampleEngines.cpp); length and mask were found by building TensorRT-RTX 1.7.1 plans
for each target, and tests/engine/test_engine_file.py builds them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from segedge.card.plain import parse_json
from segedge.engine.flavour import RTX_CAPABILITIES, TITLES, FlavourName
from segedge.errors import ModelError

HEADER_BYTES = 64
_FLAVOUR_OF_TAG: dict[bytes, FlavourName] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
_LONGEST_METADATA = 1 << 20


@dataclass(frozen=True)
class PlanHeader:
    """What the first bytes of a plan say."""

    flavour: FlavourName
    version: tuple[int, int, int]
    length: int | None
    """Bytes that the whole plan must have; None where the flavour does not say."""
    targets: tuple[str, ...]
    """GPUs of a TensorRT-RTX plan; empty for TensorRT, which does not say."""

    def __str__(self) -> str:
        return f"{TITLES[self.flavour]} {'.'.join(map(str, self.version))}"


def read_header(plan: bytes, *, name: str) -> PlanHeader:
    """Read a plan's first bytes."""
    if len(plan) < HEADER_BYTES:
        raise ModelError(
            f"{name} is truncated",
            facts={"found": f"{len(plan)} bytes", "expected": f"more than {HEADER_BYTES}"},
            fix="copy it again, or build it again: segedge build MODEL.onnx",
        )
    flavour = _FLAVOUR_OF_TAG.get(plan[:4])
    if flavour is None:
        raise ModelError(
            f"{name} is no TensorRT engine",
            facts={
                "found": f"its first bytes are {plan[:4].hex(' ')}",
                "expected": "66 74 72 74 (TensorRT) or 76 74 72 74 (TensorRT-RTX)",
            },
            fix="segedge build MODEL.onnx -o model.engine makes one",
        )
    version = (plan[24], plan[25], plan[26])
    if flavour == "tensorrt":
        return PlanHeader(flavour, version, None, ())
    length = int.from_bytes(plan[16:24], "little")
    mask = int.from_bytes(plan[32:40], "little")
    names = [f"sm_{major}{minor}" for major, minor in RTX_CAPABILITIES]
    targets = tuple(name for bit, name in enumerate(names) if mask >> bit & 1)
    return PlanHeader(flavour, version, length, targets)


def split_ultralytics(data: bytes) -> tuple[bytes, dict[str, str]]:
    """A plan and the metadata before it, as Ultralytics writes them; empty where there is none.

    Its ``.engine`` files begin with a 4-byte little-endian length and that many bytes of JSON.
    """
    if data[:4] in _FLAVOUR_OF_TAG or len(data) < 4:
        return data, {}
    length = int.from_bytes(data[:4], "little")
    if not 2 <= length <= min(_LONGEST_METADATA, len(data) - 4) or data[4:5] != b"{":
        return data, {}
    try:
        fields = parse_json(data[4 : 4 + length])
    except ValueError:
        return data, {}
    return data[4 + length :], {str(key): str(value) for key, value in fields.items()}
