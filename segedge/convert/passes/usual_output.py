"""Outputs of other files made the usual ones: logits (1, classes, H, W), labels (1, H, W)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.convert.passes.base import Pass
from segedge.graph.kit import Model, ir
from segedge.graph.operators import Operator, append

_LARGEST_STRIDE, _SMALLEST_SIDE = 64, 4
"""What is coarser than that is no map, but says something of the whole image."""
Shape = tuple[int, ...]


def float_outputs(model: Model) -> None:
    """Give bfloat16 outputs as float32, the same numbers: NumPy lacks the type."""
    kinds = ir().DataType
    for place, value in enumerate(model.graph.outputs):
        if value.dtype == kinds.BFLOAT16:
            cast = Operator("Cast", attributes={"to": kinds.FLOAT.value})
            model.graph.outputs[place] = append(model, value, cast)


@dataclass(frozen=True)
class OutputForm:
    """How an output is brought to the usual form: axes put in, then classes in front."""

    shape: Shape
    """With a batch of one, and places as rows and columns."""
    channels_last: bool = False
    """Whether the classes are its last axis."""

    @property
    def usual(self) -> Shape:
        """The shape afterwards."""
        batch, height, width, classes = self.shape if self.channels_last else (0, 0, 0, 0)
        return (batch, classes, height, width) if self.channels_last else self.shape

    def __call__(self, output: NDArray[Any]) -> NDArray[Any]:
        """An array of the original's, brought to it."""
        found = output.reshape(self.shape)
        return found.transpose(0, 3, 1, 2) if self.channels_last else found


def output_form(
    shape: Shape, *, is_float: bool, network: Size, channels: int | None = None
) -> OutputForm | None:
    """The form of an output of this shape, or None where it is usual or not known.

    ``channels`` are the classes that were named, which tell two equally likely axes apart.
    """
    if len(shape) not in (1, 2, 3) or (
        len(shape) == 3 and shape[0] == 1 and _is_plane(shape[1:], network)
    ):
        return None
    places = shape[1:] if shape[0] == 1 and len(shape) > 1 else shape
    if not is_float:
        plane = places if _is_plane(places, network) else _plane_of(math.prod(places), network)
        return None if plane is None or len(places) > 2 else OutputForm((1, *plane))
    if len(shape) == 3 and shape[0] != 1:
        first, last = _is_plane(shape[1:], network), _is_plane(shape[:2], network)
        if first != last:
            return OutputForm((1, *shape), channels_last=last)
        return None
    if len(shape) == 2 and _is_plane(shape, network):
        return OutputForm((1, 1, *shape))
    return _flat_form(places, network, channels) if len(places) == 2 else None


def _flat_form(places: Shape, network: Size, channels: int | None) -> OutputForm | None:
    """Of classes x places or places x classes."""
    forms = []
    for axis in (0, 1):
        plane, classes = _plane_of(places[1 - axis], network), places[axis]
        if plane is not None:
            forms.append((classes, OutputForm(_flat_shape(axis, classes, plane), bool(axis))))
    if len(forms) > 1:
        forms = [(classes, form) for classes, form in forms if classes == channels]
    return forms[0][1] if len(forms) == 1 else None


def _flat_shape(axis: int, classes: int, plane: Shape) -> Shape:
    return (1, *plane, classes) if axis else (1, classes, *plane)


def _is_plane(shape: Shape, network: Size) -> bool:
    """Whether rows and columns are the network's at some stride."""
    return len(shape) == 2 and any(
        shape == (network.height // stride, network.width // stride) for stride in _strides(network)
    )


def _plane_of(places: int, network: Size) -> Shape | None:
    """Rows and columns of so many places, at a stride that divides the network's size."""
    for stride in _strides(network):
        if network.height * network.width == places * stride * stride:
            return network.height // stride, network.width // stride
    return None


def _strides(network: Size) -> list[int]:
    both, shorter = math.gcd(network.height, network.width), min(network.height, network.width)
    largest = min(_LARGEST_STRIDE, shorter // _SMALLEST_SIDE)
    return [stride for stride in range(1, largest + 1) if both % stride == 0]


def usual_output(form: OutputForm) -> Pass:
    """Put the axes of the output in order."""

    def effect(model: Model) -> str:
        target = np.array(form.shape, np.int64)
        end = append(model, model.graph.outputs[0], Operator("Reshape", (target,)))
        if form.channels_last:
            end = append(model, end, Operator("Transpose", attributes={"perm": [0, 3, 1, 2]}))
        model.graph.outputs[:] = [end]
        return f"output made {'x'.join(map(str, form.usual))}"

    return Pass("usual output", effect)
