"""Whether a network in fp16 still says what it said in fp32, and where it overflows if not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.records import Parity
from segedge.errors import ModelError
from segedge.graph.kit import Model, Value, session_of
from segedge.graph.typed import TypedGraph, card_of, prepare
from segedge.precision.measure import (
    Kind,
    Probes,
    emulated,
    float_values,
    input_tensors,
    probe,
)
from segedge.reference import frame as reference
from segedge.reference.agreement import LabelCount


@dataclass(frozen=True)
class Fp16Check:
    """What came out when a network ran in fp32 and in fp16 side by side."""

    parity: Parity
    """Pixel agreement after the tail, ambiguous share, and the largest logit error."""
    nonfinite: tuple[str, ...]
    """Values that hold an inf or a NaN in fp16 and not in fp32, in the order of the graph."""


def check_fp16(
    original: Model, converted: Model, images: Sequence[NDArray[Any]] | None = None
) -> Fp16Check:
    """Compare a network with its fp16 conversion.

    ONNX Runtime's CPU provider computes fp16 graphs in float32 and does not even round in between,
    so a plain run of the converted graph would show neither its rounding nor its overflow. What is
    compared is therefore the graph with an explicit rounding to float16 behind every fp16 node;
    the converted graph itself is run once, to see that it loads and runs. GPU kernels that
    *accumulate* in fp16 may still differ: the margin of `to_fp16`'s range limit is for them.
    """
    tensors, kind = input_tensors(original, images)
    return compare(
        original, converted, tensors, kind=kind, wide=probe(prepare(original).model, tensors)
    )


def compare(
    original: Model, converted: Model, tensors: Sequence[NDArray[Any]], *, kind: Kind, wide: Probes
) -> Fp16Check:
    """`check_fp16` with the fp32 network's run given."""
    session_of(converted).run(tensors[0])
    half = probe(emulated(converted), tensors, names=float_values(converted))
    already = {_plain(name) for name in wide.nonfinite}
    nonfinite = tuple(name for name in half.nonfinite if _plain(name) not in already)
    return Fp16Check(_parity(original, tensors, kind, (wide, half)), nonfinite)


def overflowing(graph: TypedGraph, converted: Model, check: Fp16Check) -> dict[str, str]:
    """The layers around the first value that is inf or NaN only in fp16, each with the reason.

    ``graph`` is the prepared fp32 graph, whose node names the conversion keeps.
    """
    value = _value_in(graph, converted, check.nonfinite[0])
    node = value.producer()
    reasons = {node.name: "overflows in fp16: gives inf or NaN"} if node is not None else {}
    for reader in graph.readers[value]:
        reasons.setdefault(reader.name, f"reads {value.name}, which overflows in fp16")
    return reasons


def _value_in(graph: TypedGraph, converted: Model, name: str) -> Value:
    """The prepared graph's value behind a converted one; casts lead back to what they cast."""
    value = TypedGraph(converted).values[name]
    while (node := value.producer()) is not None and node.name not in graph.named:
        value = node.inputs[0]
    if node is None:
        return graph.values[value.name]
    return graph.named[node.name].outputs[value.index()]


def _plain(name: str) -> str:
    return name.removesuffix("_fp16")


def _parity(
    model: Model, tensors: Sequence[NDArray[Any]], kind: Kind, runs: Sequence[Probes]
) -> Parity:
    card = card_of(model)
    index = _head_index(model, card)
    total, sizes = LabelCount(), dict[Size, None]()
    for tensor, *outputs in zip(tensors, runs[0].outputs, runs[1].outputs, strict=True):
        wide, half = outputs[0][index], outputs[1][index]
        size = _input_size(tensor, card)
        sizes[size] = None
        for one, other in _items(tensor, wide, half):
            total += _compare(one, other, card or _assumed_card(one, size), size)
    images = sum(len(tensor) for tensor in tensors)
    return total.parity(images=images, kind=kind, sizes=tuple(sizes))


def _items(
    tensor: NDArray[Any], wide: NDArray[Any], half: NDArray[Any]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """One pair of outputs an image of the batch."""
    if len(wide) != len(tensor):
        yield wide, half
        return
    for index in range(len(tensor)):
        yield wide[index : index + 1], half[index : index + 1]


def _compare(wide: NDArray[Any], half: NDArray[Any], card: ModelCard, size: Size) -> LabelCount:
    """One image's labels at the input's size."""
    geometry = Geometry.fit(size, size, "stretch")
    same = reference.labels(wide, card, geometry) == reference.labels(half, card, geometry)
    if card.head == "labels":
        return LabelCount.of(same, max_logit_error=0.0)
    difference = np.abs(wide.astype(np.float64) - half)
    error = float(np.nan_to_num(difference, nan=np.inf).max())
    clear = ~reference.ambiguous(wide, card, geometry)
    return LabelCount.of(same, clear, max_logit_error=error)


def _head_index(model: Model, card: ModelCard | None) -> int:
    """Position of the output that holds the head: the one the card names, else the first."""
    names = [value.name for value in model.graph.outputs]
    return names.index(card.output) if card is not None and card.output in names else 0


def _input_size(tensor: NDArray[Any], card: ModelCard | None) -> Size:
    """Height and width of the image inside an input tensor."""
    if tensor.ndim != 4:
        raise ModelError(
            "the network's input is no batch of images",
            facts={"found": f"shape {tensor.shape}", "expected": "1x3xHxW or 1xHxWx3"},
        )
    nhwc = card.input_layout == "nhwc" if card else tensor.shape[3] == 3 != tensor.shape[1]
    return Size(*(tensor.shape[1:3] if nhwc else tensor.shape[2:]))


def _assumed_card(output: NDArray[Any], size: Size) -> ModelCard:
    """A card for a network without one: labels where the output is integer, else NCHW logits."""
    labels = output.dtype.kind in "iub"
    channels = 256 if labels else output.shape[1]
    count = max(2, channels)
    return ModelCard(
        classes=tuple(map(str, range(count))),
        palette_rgb=((0, 0, 0),) * count,
        input_height=size.height,
        input_width=size.width,
        head="labels" if labels else "logits",
        activation="softmax" if channels > 1 else "sigmoid",
    )
