"""Whether the exported network computes what the original does, measured end to end.

The original runs as it was, with its own upsample and softmax; the exported one runs in ONNX
Runtime and the reference tail does the rest. The original's images are prepared by an independent
library (`segedge.convert.way`), the exported network's as this package does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.convert.passes.chain import TailState
from segedge.convert.passes.head import HeadFacts
from segedge.convert.reading import Reading
from segedge.convert.way import Levels
from segedge.errors import ExportError, ParityError
from segedge.reference import frame as reference
from segedge.reference.agreement import LabelCount

WANTED_AGREEMENT = 0.999
MOST_AMBIGUOUS = 0.5
"""Where more than half of the pixels are ties, agreement of the others proves nothing."""
Network = Callable[[NDArray[np.float32]], NDArray[Any]]
Image = NDArray[np.uint8]
Prepare = Callable[[Image, ModelCard], NDArray[np.float32]]


def compare(
    original: Network,
    exported: Network,
    images: Iterable[Image],
    *,
    card: ModelCard,
    head: HeadFacts,
    prepare: Prepare | None = None,
    levels: Levels | None = None,
    reading: Reading | None = None,
    is_coded: bool = False,
) -> tuple[int, LabelCount]:
    """Run both networks over H x W x 3 uint8 BGR images of any size, at the card's input size.

    ``prepare`` gives the original's input; without it both get the same. ``levels`` counts how far
    the two inputs are apart, ``reading`` sees what the original writes. ``is_coded``: the network
    rounds to codes inside, where the last bit of an input becomes a whole step: both get the same
    then, and only ``levels`` tells of the other's. Gives how many images there were, and what they
    gave.
    """
    total, count = LabelCount(), 0
    for image in images:
        frame = Size(*image.shape[:2])
        geometry = card.place(frame)
        tensor = reference.preprocess(image, card, geometry)
        own = tensor if prepare is None else prepare(image, card)
        if levels is not None:
            levels.add(tensor, own, card)
        there, here = original(tensor if is_coded else own), exported(tensor)
        _refuse_nan(there, here)
        if reading is not None:
            reading.add(there)
        total += compare_outputs(there, here, card=card, head=head)
        count += 1
    return count, total


def _refuse_nan(original: NDArray[Any], exported: NDArray[Any]) -> None:
    """NaN compares with nothing, so that no pixel would count as different."""
    for name, output in (("the network", original), ("the exported network", exported)):
        share = float(np.mean(np.isnan(output)))
        if not share:
            continue
        facts = {"found": f"{100 * share:.3g} % of the outputs of one image"}
        if output is exported:
            raise ParityError(
                f"{name} gives NaN where the original does not",
                facts=facts,
                fix="try another --opset, or report it with the network",
            )
        raise ExportError(
            f"{name} gives NaN before anything was done to it",
            facts=facts,
            fix="check the checkpoint (a training that diverged?), --mean and --std",
        )


def compare_outputs(
    original: NDArray[Any], exported: NDArray[Any], *, card: ModelCard, head: HeadFacts
) -> LabelCount:
    """Labels of both at the network's input size, and the largest difference of their logits."""
    if card.head == "labels":
        return LabelCount.of(np.reshape(original, -1) == np.reshape(exported, -1))
    state = head.original
    if state.labels:
        return _compare_labels(original, exported, card, head)
    there = class_planes(original, state)
    size = Size(*there.shape[1:])
    here = _interpolated(exported, card, size)
    error, span = float(np.max(np.abs(_activated(here, state, head) - there))), np.ptp(there)
    # Where the original leaves the upsampling of its logits to the user, too, both get the same
    # one. Of logits and probabilities it is another function: then the grid points are compared.
    if size != card.input_size and (head.probabilities or not state.activation):
        grid_card = card.replace(logits_layout="nchw")
        # Of one channel it gives a background beside it, which is not the original's.
        there = _interpolated(there[None], grid_card, card.input_size)[-len(there) :]
        here = _interpolated(exported, card, card.input_size)
    clear = _clear(here, exported, card) & settled(here, head)
    same = np.argmax(here, axis=0) == _labels_of(there, head)
    return LabelCount.of(same, clear, max_logit_error=error, logit_range=float(span))


def require_agreement(
    result: LabelCount, card: ModelCard, *, images: int, wanted: float = WANTED_AGREEMENT
) -> None:
    """Raise where too few of the unambiguous pixels agree, or most pixels are ambiguous."""
    if result.ambiguous > MOST_AMBIGUOUS * result.pixels:
        raise ParityError(
            "parity cannot be measured: the network hardly prefers one class to another",
            facts={
                "ambiguous": f"{100 * result.ambiguous_share:.1f} % of the pixels "
                f"({images} images at {card.input_size})",
                "expected": f"at most {100 * MOST_AMBIGUOUS:.0f} %",
            },
            fix="export trained weights (--checkpoint), and verify on real images: --verify FOLDER",
        )
    if result.agreement >= wanted:
        return
    error = "labels only" if result.max_logit_error is None else f"{result.max_logit_error:.2e}"
    raise ParityError(
        "the exported network does not compute what the original does",
        facts={
            "agreement": f"{100 * result.agreement:.3f} % of the unambiguous pixels "
            f"({images} images at {card.input_size})",
            "expected": f"{100 * wanted:.1f} %",
            "ambiguous": f"{100 * result.ambiguous_share:.3f} %",
            "max error": error,
        },
        fix="try --keep-tail to see whether the cut is to blame, another --opset, or report it "
        "with the network",
    )


def require_batch(exported: Network, images: Sequence[Image], card: ModelCard) -> None:
    """Raise where a batch of three gives anything but what its images give alone."""
    geometry = card.place(Size(*images[0].shape[:2]))
    tensors = [reference.preprocess(image, card, geometry) for image in images[:3]]
    alone = np.concatenate([exported(tensor) for tensor in tensors])
    together = exported(np.concatenate(tensors))
    scale = float(np.max(np.abs(alone))) or 1.0
    if together.shape != alone.shape or np.max(np.abs(together - alone)) > 1e-3 * scale:
        raise ExportError(
            "the network mixes the images of a batch",
            facts={"alone": str(alone.shape), "together": str(together.shape)},
            fix="export without --dynamic batch",
        )


def untraced_sizes(traced: Size, stride: int) -> list[Size]:
    """Two sizes of other shape, in steps that usual networks take (32, or the stride)."""
    step = 32 if traced.height % 32 == 0 and traced.width % 32 == 0 else max(stride, 1)

    def scaled(length: int, factor: float, other: int) -> int:
        steps = max(1, round(length * factor / step))
        return step * (steps + (steps * step == other))

    wider = Size(
        scaled(traced.height, 0.75, traced.height), scaled(traced.width, 1.25, traced.width)
    )
    taller = Size(
        scaled(traced.height, 1.5, traced.height), scaled(traced.width, 0.8, traced.width)
    )
    return [wider, taller]


def usual_labels(network: Network, state: TailState) -> Network:
    """An original whose labels are N x H x W, and whose two-class mask holds 0 and 1."""
    if not state.labels:
        return network

    def labels(tensor: NDArray[np.float32]) -> NDArray[Any]:
        output = network(tensor)
        if output.ndim == 4 and output.shape[3] == 1 and output.shape[1] != 1:
            output = output[..., 0]
        if state.threshold is None and output.dtype.kind == "f":
            output = _whole(output)
        return output if state.threshold is None else (output == max(state.written)).astype("u1")

    return labels


def _whole(output: NDArray[Any]) -> NDArray[np.int64]:
    """Labels that are written as floats."""
    labels = np.rint(output)
    if not np.array_equal(labels, output):
        raise ExportError(
            "the network writes one channel of numbers for more than two classes",
            facts={"found": f"{output.min():.4g} to {output.max():.4g}, not all whole numbers"},
            fix="name the two classes of one channel (--classes), or let the network write logits "
            "or labels",
        )
    return np.asarray(labels, np.int64)


def settled(planes: NDArray[np.float64], head: HeadFacts) -> NDArray[np.bool_]:
    """Places whose label no rounding by the original can change, for the exported logits there."""
    state = head.original
    sure = np.ones(planes.shape[1:], np.bool_)
    for rounding in state.roundings:
        values = _activated(planes, replace(state, activation=rounding.activation), head)
        low, high = (np.reshape(v, (-1, 1, 1)) for v in (rounding.lowest, rounding.highest))
        values = np.sort(np.clip(values, low, high), axis=0)
        limit = 0.5 if rounding.activation == "sigmoid" else state.threshold or 0.0
        margin = np.abs(values[0] - limit) if len(values) == 1 else values[-1] - values[-2]
        sure &= margin > rounding.step + rounding.share * np.abs(values).max(axis=0)
    return sure


def _compare_labels(
    original: NDArray[Any], exported: NDArray[Any], card: ModelCard, head: HeadFacts
) -> LabelCount:
    """An original that gives labels only, at the input size or at the grid's."""
    size = label_size(original, card)
    here = _interpolated(exported, card, size)
    clear = _clear(here, exported, card) & settled(here, head)
    there = np.reshape(original, (size.height, size.width)).astype(np.int64)
    return LabelCount.of(np.argmax(here, axis=0) == there, clear)


def label_size(labels: NDArray[Any], card: ModelCard) -> Size:
    """Rows and columns of an original's labels."""
    if labels.size == card.input_height * card.input_width:
        return card.input_size
    return Size(labels.shape[-2], labels.shape[-1])


def class_planes(output: NDArray[Any], state: TailState) -> NDArray[np.float64]:
    """An original's output as C x H x W."""
    planes = np.asarray(output, np.float64)
    if state.class_axis is None:  # one channel, squeezed away
        return planes.reshape(1, *planes.shape[-2:])
    extra = planes.ndim - 3
    planes = np.moveaxis(planes, state.class_axis, 0)
    return planes.reshape(planes.shape[0], *planes.shape[1 + extra :])


def _interpolated(output: NDArray[Any], card: ModelCard, size: Size) -> NDArray[np.float64]:
    """Logits of every class at ``size``; the grid's own values where that is its size."""
    planes = reference.class_logits(output, card)
    if planes.shape[1:] == (size.height, size.width):
        return planes
    return reference.interpolate(output, card, Geometry.fit(size, size, "stretch"))


def _activated(
    planes: NDArray[np.float64], state: TailState, head: HeadFacts
) -> NDArray[np.float64]:
    """Our logits as the original gives them: without background, with its activation."""
    if head.channels == 1:
        planes = planes[1:]
        planes = (-planes if head.negated else planes) * head.scale + head.shift
    if head.probabilities or not state.activation:
        return planes
    if state.activation == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-planes)))
    shifted = planes - planes.max(axis=0)
    log = shifted - np.log(np.exp(shifted).sum(axis=0))
    return log if state.activation == "log_softmax" else np.asarray(np.exp(log))


def _labels_of(planes: NDArray[np.float64], head: HeadFacts) -> NDArray[np.int64]:
    """The original's labels: argmax, or the threshold of a single channel."""
    if planes.shape[0] == 1:
        return np.asarray(planes[0] > (head.limit or 0.0), np.int64)
    return np.asarray(np.argmax(planes, axis=0), np.int64)


def _clear(
    planes: NDArray[np.float64], exported: NDArray[Any], card: ModelCard
) -> NDArray[np.bool_]:
    """Pixels whose label is not a matter of rounding, by the reference's rule."""
    if planes.shape[0] < 2:
        return np.ones(planes.shape[1:], np.bool_)
    grid = reference.class_logits(exported, card)
    top = np.partition(planes, -2, axis=0)[-2:]
    return np.asarray(top[1] - top[0] > reference.TIE * (grid.max() - grid.min()))
