"""fp16 in the graph: an fp32 ONNX network in, the same network in mixed precision out.

TensorRT 11 builds what the graph's types say and nothing else, so the choice of what computes in
fp16 is made here: all weights and activations, but softmax, norms and other long sums, sampling
positions, shape arithmetic, what the user names, and what leaves fp16's range: constants, and
activations measured on images.

Why not an existing converter? ``onnxruntime.transformers.float16`` (of 1.32; it descends from
onnxconverter-common) was tried on the test networks [V]. It keeps operators by type, TensorRT-RTX
builds what it makes, but (1) between two nodes kept in fp32 it casts to fp16 and back, so a value
that is kept fp32 *because* it exceeds 65504 is infinite all the same; (2) it measures nothing;
(3) an fp32 node that shares a weight with an fp16 one gets the rounded weight, and so does Resize
its scales where a Constant makes them; (4) it appends its casts at the end of the node list, and
onnx.checker refuses the graph as unsorted.

Files: ``graph/typed`` prepares, ``rules`` decides, ``../measure`` runs, ``retype`` rewrites,
``check`` compares.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from segedge.errors import ModelError, UsageError, nearest_name
from segedge.graph.kit import FLOAT, FLOAT16, Model, Node, values_of
from segedge.graph.typed import TypedGraph, float_outputs, is_float_cast, is_weight, maker, prepare
from segedge.precision.fp16.check import Fp16Check, check_fp16, compare, overflowing
from segedge.precision.fp16.retype import FP16_MAX, retype
from segedge.precision.fp16.rules import (
    ARITHMETIC,
    Reasons,
    clamped_constants,
    close_over,
    lost_weights,
    range_reasons,
    static_reasons,
)
from segedge.precision.measure import Probes, input_tensors, probe

RANGE_LIMIT = 0.5 * FP16_MAX
"""Largest measured magnitude that fp16 is trusted with: other images, and partial sums inside a
layer, reach further than what was measured."""
_ROUNDS = 8
_POOR_AGREEMENT = 0.99
"""Below it, the report warns: trained networks measured here keep over 99.9 % of their pixels."""

__all__ = [
    "RANGE_LIMIT",
    "Fp16Check",
    "Fp16Report",
    "KeptLayer",
    "check_fp16",
    "keep_fp32",
    "to_fp16",
]


@dataclass(frozen=True)
class KeptLayer:
    """A layer that computes in fp32 in an fp16 network."""

    name: str
    """Its node's name."""
    op: str
    """Its operator."""
    reason: str
    """Why, in a few words."""

    def __str__(self) -> str:
        return f"{self.name} ({self.op}): {self.reason}"


@dataclass(frozen=True)
class Fp16Report:
    """What a conversion to fp16 did, and what it measured."""

    converted: tuple[str, ...]
    """Names of the nodes that compute in fp16."""
    kept: tuple[KeptLayer, ...]
    """The nodes that compute in fp32."""
    casts: tuple[str, ...]
    """Names of the casts between the two."""
    clamped: tuple[str, ...]
    """Constants that were clamped to fp16's range, with how many of their values."""
    weights: int
    """Number of weights that are fp16 now."""
    flushed: int
    """Weights other than zero that became zero: below 3e-8."""
    subnormal: int
    """Weights that are subnormal now, with fewer than 11 bits: below 6.1e-5."""
    max_abs: float
    """Largest magnitude of any value inside the fp32 network."""
    max_abs_value: str
    """Name of that value."""
    overflow: KeptLayer | None
    """The first layer that leaves fp16's range, or None; it is among ``kept``."""
    check: Fp16Check
    """Agreement with the fp32 network."""

    def lines(self) -> list[str]:
        """The report in a few lines, for people."""
        parity = self.check.parity
        kind = "images" if parity.kind == "images" else "images of noise (--images takes yours)"
        text = [
            f"{len(self.converted)} layers in fp16, {len(self.kept)} in fp32, "
            f"{len(self.casts)} casts",
            f"{100 * parity.agreement:.3f} % of the pixels as in fp32, on {parity.images} {kind}; "
            f"{100 * parity.ambiguous:.3f} % ambiguous left out",
            f"largest value {self.max_abs:.4g} ({self.max_abs_value}); fp16 ends at {FP16_MAX:g}",
        ]
        if parity.agreement < _POOR_AGREEMENT:
            text.append(
                f"that is poor: under {100 * _POOR_AGREEMENT:.0f} %; --keep-fp32 PATTERN keeps "
                "layers in fp32, --precision fp32 all of them"
            )
        if self.overflow is not None:
            text.append(f"overflow kept in fp32, first at {self.overflow}")
        if self.flushed:
            text.append(f"{self.flushed} of {self.weights} weights are too small and became zero")
        return text + [f"clamped {constant}" for constant in self.clamped]


def to_fp16(
    model: Model,
    *,
    keep: Sequence[str] = (),
    images: Sequence[NDArray[Any]] | None = None,
    keep_io: bool = True,
    limit: float = RANGE_LIMIT,
) -> tuple[Model, Fp16Report]:
    """Convert a network to fp16 where that is safe, and check it against fp32.

    ``model`` is a float32 network with one input, weights loaded; it is not changed.
    ``keep`` holds patterns (as of the shell) of node names or operators that stay fp32. Ranges are
    measured on ``images``, preprocessed network inputs 3xHxW or Nx3xHxW; None measures on noise,
    and the report says so. ``keep_io`` leaves the graph's inputs and outputs float32. ``limit`` is
    the largest measured magnitude that a value in fp16 may have.
    """
    graph = prepare(model)
    _refuse_half(graph)
    tensors, kind = input_tensors(graph.model, images)
    ranges = probe(graph.model, tensors)
    _refuse_nan(graph, ranges)
    static = static_reasons(graph, keep)
    beyond = range_reasons(graph, ranges.absmax, limit)
    computed = {n: r for n, r in beyond.items() if static.get(n) != ARITHMETIC}
    overflow = _first_overflow(graph, ranges, computed)
    reasons = beyond | static
    for _ in range(_ROUNDS):
        wide = close_over(graph, reasons)
        converted = retype(graph, wide=wide, keep_io=keep_io)
        check = compare(graph.model, converted, tensors, kind=kind, wide=ranges)
        if not check.nonfinite:
            return converted, _report(graph, converted, wide, ranges, overflow, check)
        culprits = overflowing(graph, converted, check)
        if culprits.keys() <= wide.keys():
            break
        overflow = overflow or _kept(graph, culprits)[0]
        reasons = culprits | reasons
    raise _still_overflows(check)


def _report(
    graph: TypedGraph,
    converted: Model,
    wide: Reasons,
    ranges: Probes,
    overflow: KeptLayer | None,
    check: Fp16Check,
) -> Fp16Report:
    largest = max(ranges.absmax, key=lambda name: ranges.absmax[name])
    weights, flushed, subnormal = lost_weights(graph, wide)
    return Fp16Report(
        converted=tuple(n.name for n in _computing(graph) if n.name not in wide),
        kept=_kept(graph, wide),
        casts=tuple(n.name for n in converted.graph if n.name not in graph.named),
        clamped=clamped_constants(graph, wide),
        weights=weights,
        flushed=flushed,
        subnormal=subnormal,
        max_abs=ranges.absmax[largest],
        max_abs_value=largest,
        overflow=overflow,
        check=check,
    )


def _computing(graph: TypedGraph) -> list[Node]:
    """The nodes that give floats, casts between them apart."""
    return [node for node in graph.nodes if float_outputs(node) and not is_float_cast(node)]


def _kept(graph: TypedGraph, reasons: Reasons) -> tuple[KeptLayer, ...]:
    nodes = [node for node in _computing(graph) if node.name in reasons]
    return tuple(KeptLayer(n.name, n.op_type, reasons[n.name]) for n in nodes)


def _first_overflow(graph: TypedGraph, ranges: Probes, reasons: Reasons) -> KeptLayer | None:
    """The first of these layers that gives values which fp16 cannot hold."""
    beyond = {graph.values[name] for name, size in ranges.absmax.items() if not size <= FP16_MAX}
    over = {
        n.name: reasons[n.name] for n in graph.nodes if n.name in reasons and beyond & {*n.outputs}
    }
    return next(iter(_kept(graph, over)), None)


def _refuse_half(graph: TypedGraph) -> None:
    weights = [value for value in values_of(graph.model) if is_weight(value)]
    half = [weight.name for weight in weights if weight.dtype == FLOAT16]
    if half:
        raise ModelError(
            "the network is in fp16 already",
            facts={"float16 weights": f"{len(half)} of {len(weights)}, first {half[0]}"},
            fix="build it as it is, without --precision, or start from the fp32 file",
        )


def _refuse_nan(graph: TypedGraph, ranges: Probes) -> None:
    outputs = {value.name for value in graph.model.graph.outputs}
    if outputs.intersection(ranges.nonfinite):
        raise ModelError(
            "the network gives inf or NaN in fp32 already",
            facts={"first in": maker(graph.values[ranges.nonfinite[0]])},
            fix="check the weights, and how the images are preprocessed",
        )


def _still_overflows(check: Fp16Check) -> ModelError:
    return ModelError(
        "the network gives inf or NaN in fp16",
        facts={"first in": check.nonfinite[0], "values": str(len(check.nonfinite))},
        fix="--precision fp32, or keep more layers in fp32 by name",
    )


def keep_fp32(model: Model, node_names: Collection[str]) -> Model:
    """Set single layers of an fp16 network back to fp32, for one that TensorRT has no kernel for.

    Their weights keep the values that fp16 gave them; `to_fp16` with ``keep=`` on the fp32 network
    gives them back in full.
    """
    graph = prepare(model)
    for name in node_names:
        if name not in graph.named:
            near = nearest_name(name, list(graph.named))
            raise UsageError(
                f"the network has no layer {name!r}" + (f"; did you mean {near!r}?" * bool(near)),
                facts={"layers": str(len(graph.named))},
            )
    wide = {node.name for node in graph.nodes if _computes_wide(node)}
    return retype(graph, wide=wide | set(node_names), keep_io=True)


def _computes_wide(node: Node) -> bool:
    """Whether a node of a mixed graph is in fp32, by what it gives."""
    return any(value.dtype == FLOAT for value in float_outputs(node))
