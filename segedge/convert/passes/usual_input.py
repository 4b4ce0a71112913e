"""Inputs of other files made the usual one: a batch of one colour image, in floating point.

Every backend, both twins of preprocessing and TensorRT then need to know nothing of them. What the
original is given for the same image is told by `InputForm.feed`, for the parity check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.axes import Layout, channel_axis
from segedge.convert.passes.base import Pass
from segedge.graph.kit import (
    FLOAT,
    FLOATS,
    Model,
    Node,
    Value,
    attribute,
    constant,
    forget_shapes,
    image_input,
    infer_shapes,
    initializer,
    ir,
    set_type,
)
from segedge.graph.operators import Operator, put_behind_input

LUMA_RGB = (0.299, 0.587, 0.114)
"""What OpenCV, Pillow and torchvision make grey of (ITU-R BT.601); their sum is 1, so that a grey
picture in three channels stays what it was."""
INPUT_TYPES = ("float32", "float16", "float64", "uint8")
_SHUFFLES = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class InputForm:
    """What the image input of a network is."""

    layout: Layout
    """Axis order."""
    channels: int
    """3, or 1 for grey."""
    batch: int
    """Images that it takes at once; an open axis counts as 1."""
    dtype: str
    """One of `INPUT_TYPES`."""

    def feed(self, tensor: NDArray[np.float32]) -> NDArray[Any]:
        """What the original is given for the usual tensor."""
        axis, found = channel_axis(self.layout), tensor
        if self.channels == 1:
            weights = np.array(LUMA_RGB, np.float32)
            found = np.expand_dims(np.moveaxis(found, axis, -1) @ weights, axis)
        if self.dtype == "uint8":
            found = np.clip(np.rint(found), 0, 255)
        return np.repeat(found, self.batch, axis=0).astype(self.dtype)

    def settled(self) -> Mapping[str, Any]:
        """Fields of the card that can be nothing else with this input."""
        settled: dict[str, Any] = {}
        if self.dtype == "uint8":
            settled = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}
        return {**settled, "color": "rgb"} if self.channels == 1 else settled

    def notes(self) -> tuple[str, ...]:
        """What the user should know of what is done."""
        notes = []
        if self.channels == 1:
            notes.append("the network takes grey: the file takes colour and makes grey of it")
        if self.dtype == "uint8":
            notes.append("the network takes uint8 and normalises itself: the file takes 0 to 255")
        if self.batch > 1:
            notes.append(f"a fixed batch of {self.batch} made 1")
        return tuple(notes)

    def operators(self, *, codes: bool) -> tuple[Operator, ...]:
        """From the usual input to the network's own; ``codes``: its uint8 is needed as such."""
        found: list[Operator] = []
        if self.channels == 1:
            weights = np.array(LUMA_RGB, np.float32)
            if self.layout == "nchw":
                found.append(Operator("Conv", (weights.reshape(1, 3, 1, 1),)))
            else:
                found.append(Operator("MatMul", (weights.reshape(3, 1),)))
        if self.dtype == "uint8":
            limits = np.array(0.0, np.float32), np.array(255.0, np.float32)
            found += [Operator("Round"), Operator("Clip", limits)]
        if self.dtype == "float64" or (self.dtype == "uint8" and codes):
            kind = int(ir().DataType.from_numpy(np.dtype(self.dtype)))
            found.append(Operator("Cast", attributes={"to": kind}))
        return tuple(found)


def usual_input(form: InputForm) -> Pass:
    """Make the input a batch of one colour image in float32, or float16 where it is that."""

    def effect(model: Model) -> str:
        value = image_input(model)
        if form.batch > 1:
            _take_one_image(model, value, form.batch)
        if form.channels == 1:
            shape = list(value.shape)
            shape[channel_axis(form.layout)] = 3
            value.shape = ir().Shape(shape)
        codes = form.dtype == "uint8" and not _becomes_float(value)
        if form.dtype in ("uint8", "float64"):
            set_type(value, FLOAT)
        if not (form.channels == 1 and form.dtype == "float32" and _in_convolutions(model, value)):
            put_behind_input(model, value, form.operators(codes=codes))
        forget_shapes(model)
        infer_shapes(model)
        return "; ".join(form.notes())

    return Pass("usual input", effect)


def _take_one_image(model: Model, value: Value, batch: int) -> None:
    """Whatever names the batch in a constant shape names one image instead."""
    value.shape = ir().Shape([1, *list(value.shape)[1:]])
    for node in model.graph:
        shape = constant(node.inputs[1]) if node.op_type in ("Reshape", "Expand") else None
        if shape is not None and shape.size and shape[0] == batch:
            single = np.array([1, *shape[1:]], shape.dtype)
            _replace_constant(model, node, single, suffix="one_image")


def _in_convolutions(model: Model, value: Value) -> bool:
    """Multiply the weights that make grey into the first convolutions, where nothing is between."""
    uses = list(value.uses())
    if not all(_is_plain_convolution(use.node, use.idx) for use in uses):
        return False
    luma = np.array(LUMA_RGB).reshape(1, 3, 1, 1)
    for use in uses:
        weights = constant(use.node.inputs[1])
        assert weights is not None
        of_colour = (weights.astype(np.float64) * luma).astype(weights.dtype)
        _replace_constant(model, use.node, of_colour, suffix="of_colour")
    return True


def _is_plain_convolution(node: Node, index: int) -> bool:
    return (
        node.op_type == "Conv"
        and index == 0
        and attribute(node, "group", 1) == 1
        and constant(node.inputs[1]) is not None
    )


def _replace_constant(model: Model, node: Node, array: NDArray[Any], *, suffix: str) -> None:
    """Give a node another second input; the old one may have other readers."""
    value = initializer(model, f"{node.outputs[0].name}_{suffix}", array)
    node.replace_input_with(1, value)


def _becomes_float(value: Value) -> bool:
    """Whether uint8 is only shuffled before it is cast to float; it is float from here on, then."""
    between: list[Value] = []
    pending = [value]
    while pending:
        for use in pending.pop().uses():
            node = use.node
            if node.op_type == "Cast" and attribute(node, "to", 1) in FLOATS:
                continue
            if node.op_type not in _SHUFFLES or use.idx != 0:
                return False
            pending.append(node.outputs[0])
            between.append(node.outputs[0])
    for inner in between:
        set_type(inner, FLOAT)
    return True
