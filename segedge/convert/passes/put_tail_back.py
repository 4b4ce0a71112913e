"""The tail put back into the graph: upsampling and argmax, to measure what the cut brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segedge.card.card import ModelCard
from segedge.card.modelfile import read_card
from segedge.errors import BackendError
from segedge.machine.optional import require
from segedge.version import __version__

_AXES_SINCE = 18
"""Opset from which Resize takes the axes that it changes; before, it wants all four lengths."""
_FULL, _WINNER, _SIZE = "segedge_full", "segedge_winner", "segedge_size"
_ZERO, _AXIS = "segedge_zero", "segedge_axis"
_PURPOSE = "put the tail into the graph"


def with_tail(path: Path, out: Path) -> ModelCard:
    """Write the model with its logits upsampled to the input size and turned into labels.

    It computes the labels that the network's own tail would: bilinear as the card says, then the
    first of the highest channels. Labels that cover the network's input are brought to the frame by
    nearest neighbour, which is coarser than our tail where the frame is larger. The new card, which
    says ``labels``, comes back.
    """
    onnx = require("onnx", purpose=_PURPOSE)
    card = read_card(path)
    if card is None or card.head != "logits" or card.logits_layout != "nchw":
        found = "no card" if card is None else f"head {card.head}, layout {card.logits_layout}"
        raise BackendError("no tail can be put into this graph", facts={"found": found})
    model = onnx.load(str(path))
    named = [output for output in model.graph.output if output.name == card.output]
    head = (named or list(model.graph.output))[0]
    kind = onnx.TensorProto.UINT8 if len(card.classes) <= 256 else onnx.TensorProto.INT32
    model.graph.node.extend(
        [
            _upsampling(onnx, model, head, card),
            *_decision(onnx, model, head, card),
            onnx.helper.make_node("Cast", [_WINNER], ["labels"], to=kind),
        ]
    )
    batch = head.type.tensor_type.shape.dim[0]
    is_open = "size" in card.dynamic
    shape = [
        batch.dim_param or batch.dim_value or None,
        *((None, None) if is_open else (card.input_height, card.input_width)),
    ]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("labels", kind, shape))
    labels = card.replace(head="labels", stride=1, output="", parity=None)
    _write(model, labels, out)
    return labels


def _upsampling(onnx: Any, model: Any, head: Any, card: ModelCard) -> Any:
    """Resize to the input size: by its lengths, or where they are open by the stride."""
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    has_axes = opset >= _AXES_SINCE
    batch, channels = (dim.dim_value for dim in list(head.type.tensor_type.shape.dim)[:2])
    if "size" in card.dynamic:
        length = np.array([1, 1, card.stride, card.stride], np.float32)
    elif has_axes or (batch and channels):
        length = np.array([batch, channels, card.input_height, card.input_width], np.int64)
    else:
        raise BackendError(
            "with a dynamic batch only opset 18 can hold the tail",
            facts={"found": f"opset {opset}"},
        )
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(length[2:] if has_axes else length, _SIZE)
    )
    rule = "align_corners" if card.align_corners else "half_pixel"
    given = [_SIZE] if length.dtype == np.float32 else ["", _SIZE]
    return onnx.helper.make_node(
        "Resize", [head.name, "", *given], [_FULL], mode="linear",
        coordinate_transformation_mode=rule, **({"axes": [2, 3]} if has_axes else {}),
    )  # fmt: skip


def _decision(onnx: Any, model: Any, head: Any, card: ModelCard) -> list[Any]:
    """From logits N x C x H x W to the label of each pixel, N x H x W."""
    if card.activation != "sigmoid":
        return [onnx.helper.make_node("ArgMax", [_FULL], [_WINNER], axis=1, keepdims=0)]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(head.type.tensor_type.elem_type)
    constants = {_ZERO: np.zeros((), dtype), _AXIS: np.array([1], np.int64)}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    return [
        onnx.helper.make_node("Greater", [_FULL, _ZERO], [f"{_WINNER}_plane"]),
        onnx.helper.make_node("Squeeze", [f"{_WINNER}_plane", _AXIS], [_WINNER]),
    ]


def _write(model: Any, card: ModelCard, out: Path) -> None:
    require("onnx.helper", purpose=_PURPOSE).set_model_props(model, card.to_metadata())
    model.producer_name, model.producer_version = "segedge", __version__
    out.write_bytes(model.SerializeToString())
