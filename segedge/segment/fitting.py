"""Whether a network, its card and an image fit together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import Backend, TensorSpec
from segedge.card.axes import channel_axis
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.errors import CardError, UsageError

LOAD_ANEW = "use it inside its with statement, or segedge.load(...) it anew"
"""What helps who calls a segmenter that is closed."""


def checked_image(image: Any) -> NDArray[np.uint8]:
    """An image as a BGR array; UsageError where it is not H x W x 3 uint8."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UsageError(
            "an image must be H x W x 3 uint8, BGR",
            facts={"found": f"{'x'.join(map(str, array.shape))} {array.dtype}"},
            fix="cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) for grey, COLOR_BGRA2BGR for alpha",
        )
    return array


def check_network(card: ModelCard, backend: Backend) -> tuple[TensorSpec, TensorSpec]:
    """The network's image input and its head, checked against the card."""
    inputs, outputs = backend.specs
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise CardError(
            "the network must have one 4-axis image input",
            facts={"found": ", ".join(map(str, inputs))},
        )
    output = head_of(card, outputs)
    if card.head == "logits":
        axis = channel_axis(card.logits_layout)
        channels = output.shape[axis] if len(output.shape) == 4 else None
        if len(output.shape) != 4 or channels not in (None, card.channels):
            raise CardError(
                "the card does not fit the network's output",
                facts={
                    "output": str(output),
                    "expected": f"{card.channels} channels for {len(card.classes)} classes",
                },
                fix="segedge export MODEL --classes ... writes a new card",
            )
    return inputs[0], output


def head_of(card: ModelCard, outputs: Sequence[TensorSpec]) -> TensorSpec:
    """The output that the card means."""
    named = [spec for spec in outputs if spec.name == card.output]
    if named or len(outputs) == 1:
        return named[0] if named else outputs[0]
    raise CardError(
        f"the network has {len(outputs)} outputs and the card names none of them",
        facts={"outputs": ", ".join(map(str, outputs)), "card": card.output or "-"},
        fix="segedge export MODEL --output NAME writes a new card",
    )


def network_size(card: ModelCard, spec: TensorSpec) -> Size:
    """The input size: the network's own where it is fixed, else the card's."""
    return card.size_of_input(spec.shape)
