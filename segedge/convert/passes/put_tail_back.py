"""The tail put back into the graph: upsampling and argmax, to measure what the cut brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.modelfile import read_card
from segedge.errors import BackendError
from segedge.graph.kit import Formula, Model, Value, ir, load_model, opset_of, shape_of, to_bytes
from segedge.version import __version__

_AXES_SINCE = 18
"""Opset from which Resize takes the axes that it changes; before, it wants all four lengths."""


def with_tail(path: Path, out: Path) -> ModelCard:
    """Write the model with its logits upsampled to the input size and turned into labels.

    It computes the labels that the network's own tail would: bilinear as the card says, then the
    first of the highest channels. Labels that cover the network's input are brought to the frame by
    nearest neighbour, which is coarser than our tail where the frame is larger. The new card, which
    says ``labels``, comes back.
    """
    card = read_card(path)
    if card is None or card.head != "logits" or card.logits_layout != "nchw":
        found = "no card" if card is None else f"head {card.head}, layout {card.logits_layout}"
        raise BackendError("no tail can be put into this graph", facts={"found": found})
    model = load_model(path)
    graph, types = model.graph, ir().DataType
    head = next((one for one in graph.outputs if one.name == card.output), graph.outputs[0])
    kind = types.UINT8 if len(card.classes) <= 256 else types.INT32
    add = Formula(model, "segedge")
    winner = _winner(add, _upsampled(add, model, head, card), card)
    labels = add("Cast", winner, dtype=kind, to=int(kind))
    is_open = "size" in card.dynamic
    sides = (None, None) if is_open else (card.input_height, card.input_width)
    labels.name, labels.shape = "labels", ir().Shape([head.shape[0], *sides])
    graph.extend(add.take())
    graph.outputs[:] = [labels]
    new_card = card.replace(head="labels", stride=1, output="", parity=None)
    model.metadata_props.clear()
    model.metadata_props.update(new_card.to_metadata())
    model.producer_name, model.producer_version = "segedge", __version__
    out.write_bytes(to_bytes(model))
    return new_card


def _upsampled(add: Formula, model: Model, head: Value, card: ModelCard) -> Value:
    """Resized to the input size: by its lengths, or where they are open by the stride."""
    opset = opset_of(model)
    has_axes = opset >= _AXES_SINCE
    first = 2 if has_axes else 0
    batch, channels = (shape_of(head) or ())[:2]
    given: list[NDArray[Any] | list[int] | None]
    if "size" in card.dynamic:
        given = [np.array([1, 1, card.stride, card.stride][first:], np.float32)]
    elif has_axes or (batch and channels):
        given = [None, [batch or 0, channels or 0, card.input_height, card.input_width][first:]]
    else:
        raise BackendError(
            "with a dynamic batch only opset 18 can hold the tail",
            facts={"found": f"opset {opset}"},
        )
    return add(
        "Resize", head, None, *given, mode="linear",
        coordinate_transformation_mode="align_corners" if card.align_corners else "half_pixel",
        dtype=head.dtype, **({"axes": [2, 3]} if has_axes else {}),
    )  # fmt: skip


def _winner(add: Formula, full: Value, card: ModelCard) -> Value:
    """From logits N x C x H x W to the label of each pixel, N x H x W."""
    if card.activation != "sigmoid":
        return add("ArgMax", full, axis=1, keepdims=0)
    zero = np.zeros((), full.dtype.numpy())
    return add("Squeeze", add("Greater", full, zero), [1])
