"""TensorRT's messages in words: what they mean and what mends them.

TensorRT reports errors as log lines. They are collected during a build and translated here once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from segedge.engine.flavour import Flavour
from segedge.errors import BackendError, DeviceError, ModelError, SegedgeError

_NOISE = ("catchCudaError", "MemUsage", "--- Begin node", "--- End node")
_NO_DRIVER = re.compile(r"cudaError 35|CUDA initialization failure|no CUDA-capable device")
_NO_KERNEL = re.compile(r"Could not find any implementation for node ([^\n]*)")
_OUT_OF_MEMORY = re.compile(r"OutOfMemory|out of memory|insufficient memory|cudaError 2\b", re.I)
_CANCELED = re.compile(r"BuildCanceled|Build canceled")
_INT32_DEQUANTIZE = re.compile(r"(\S+): input has type Int32 but must have type .*Int8")


@dataclass(frozen=True)
class Refusal:
    """A node of an ONNX graph that the parser refused."""

    node: str
    operator: str
    """ONNX operator type; empty where the parser does not say."""
    reason: str


def parser_refusals(parser: Any) -> list[Refusal]:
    """Everything that an ``OnnxParser`` complains about."""
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    return [Refusal(e.node_name(), e.node_operator(), _first_line(e.desc())) for e in errors]


def parse_error(
    name: str, flavour: Flavour, refusals: list[Refusal], log: Iterable[str]
) -> ModelError:
    """The error for a graph that the parser refused: operator and node by name."""
    if not refusals:
        said = "; ".join(_telling(log)[:2]) or "no reason given"
        return ModelError(
            f"{flavour} cannot parse {name}",
            facts={"says": said},
            fix=f"segedge inspect {name}",
        )
    first = refusals[0]
    if not first.operator:
        return ModelError(
            f"{flavour} cannot read {name}",
            facts={"says": first.reason},
            fix="export it again: the file is damaged, or no ONNX file",
        )
    if (match := _INT32_DEQUANTIZE.search(first.reason)) is not None:
        return ModelError(
            f"{name} has int32 biases behind DequantizeLinear, which {flavour} does not take",
            facts={"node": match[1], "says": first.reason[:200]},
            fix=f"segedge export {name} makes them float; so does onnxruntime's quantize_static "
            "with extra_options={'QuantizeBias': False}",
        )
    others = sorted({r.operator for r in refusals[1:] if r.operator} - {first.operator})
    facts = {"node": first.node or "(without a name)", "says": first.reason[:300]}
    if others:
        facts["also"] = ", ".join(others)
    return ModelError(
        f"{flavour} has no operator {first.operator}",
        facts=facts,
        fix=_operator_fix(first.operator),
    )


_ADVICE = {
    "NonZero": "its output size depends on the data: move that step behind the network",
    "NonMaxSuppression": "export the network without it and do it in the program",
    "DeformConv": "replace the deformable convolution by a plain one and fine-tune",
    "Resize": "export it without antialias, or resize before the network",
    "Unique": "its output size depends on the data: move that step behind the network",
}


def _operator_fix(operator: str) -> str:
    advice = _ADVICE.get(operator, "export the network without it, or with operators it can use")
    return f"{advice}; --backend onnxruntime runs the model as it is"


def build_error(name: str, flavour: Flavour, log: Iterable[str]) -> SegedgeError:
    """The error for a build that gave no engine, from its log."""
    lines = _telling(log)
    text = "\n".join(lines)
    says = {"says": lines[0][:300] if lines else "no reason given"}
    if _NO_DRIVER.search(text):
        return DeviceError(
            f"{flavour} needs an NVIDIA driver to build this",
            facts=says,
            fix="build on the machine with the GPU, or with --flavour tensorrt_rtx",
        )
    if _OUT_OF_MEMORY.search(text):
        return DeviceError(
            f"not enough GPU memory to build {name} with {flavour}",
            facts=says,
            fix="close other programs on the GPU, or --workspace 512 (MB) and --level 2",
        )
    if (match := _NO_KERNEL.search(text)) is not None:
        return BackendError(
            f"{flavour} has no kernel for a part of {name}",
            facts={"part": match[1].strip(" .)")[:300], **says},
            fix="a larger --workspace (too little looks the same), or --precision fp32",
        )
    return BackendError(f"{flavour} cannot build {name}", facts=says, fix=f"segedge inspect {name}")


def nodes_without_kernel(log: Iterable[str], nodes: Iterable[str]) -> tuple[str, ...]:
    """Which of the network's nodes a "could not find any implementation" message names."""
    text = "\n".join(log)
    if _OUT_OF_MEMORY.search(text):
        return ()
    found = " ".join(match[1] for match in _NO_KERNEL.finditer(text))
    words = set(re.split(r"[\s\[\]{}(),]+|\.\.\.", found))
    return tuple(node for node in nodes if node and node in words)


def was_canceled(log: Iterable[str]) -> bool:
    """Whether a build ended because the progress monitor asked for it."""
    return any(_CANCELED.search(line) for line in log)


def _telling(log: Iterable[str]) -> list[str]:
    """The lines that say something, without the ones that every error drags along."""
    return [_first_line(line) for line in log if not any(noise in line for noise in _NOISE)]


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "catchCudaError" not in line]
    return " ".join(line for line in lines if line)
