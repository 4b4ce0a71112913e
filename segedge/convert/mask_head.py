"""A network that classifies masks, as export handles it: which outputs, what to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.convert.options import ExportOptions
from segedge.convert.outputs import OutputSpec, pick_masks, pick_output
from segedge.convert.parity import WANTED_AGREEMENT, Network
from segedge.convert.passes.chain import TailState
from segedge.convert.passes.head import HeadFacts
from segedge.reference.masks import SummedAt, semantic_labels, semantic_logits

LEAST_AGREEMENT = 0.9
"""With the network's own post-processing, which enlarges masks before it sums them where the file
enlarges the sums. That the file computes what it shall is measured by its proof."""
_LABELS = TailState(None, 2, 0, labels=True)
"""What that post-processing gives."""
Run = Callable[[NDArray[np.float32]], list[NDArray[Any]]]
"""From an image tensor to the outputs that make the head: the logits, or those of two."""


@dataclass(frozen=True)
class MaskHead:
    """How a network's masks become classes of pixels."""

    scale: int
    """How many times the graph enlarges the masks before it sums them."""
    summed_at: SummedAt
    """Where the network's own post-processing sums them."""


def choose_outputs(
    outputs: Sequence[OutputSpec],
    options: ExportOptions,
    *,
    source: str,
    channels: int | None,
    summed_at: SummedAt = "input",
) -> tuple[MaskHead | None, tuple[int, ...]]:
    """How a network's outputs classify masks, if they do, and the indices of the head's.

    ``channels`` is for one that classifies pixels: see `pick_output`.
    """
    if options.output is None:
        pair = pick_masks(outputs, wanted=options.masks, source=source)
        if pair is not None:
            scale = options.mask_scale or (1 if summed_at == "grid" else 2)
            return MaskHead(scale, summed_at), pair
    index = pick_output(outputs, wanted=options.output, source=source, channels=channels)
    return None, (index,)


def originals(
    masks: MaskHead | None, run: Run, exact: Run, *, rows_axis: int
) -> tuple[Network, Network]:
    """What parity and the proof compare with.

    Of pixels both are what the network gives. Masks are summed by its own post-processing for
    parity, to labels at the input's size, and as the file does it for the proof.
    """
    if masks is None:
        return lambda tensor: run(tensor)[0], lambda tensor: exact(tensor)[0]
    head = masks

    def labels(tensor: NDArray[np.float32]) -> NDArray[Any]:
        size = Size(*tensor.shape[rows_axis : rows_axis + 2])
        class_logits, mask_logits = run(tensor)
        return semantic_labels(class_logits, mask_logits, summed_at=head.summed_at, size=size)

    def logits(tensor: NDArray[np.float32]) -> NDArray[Any]:
        class_logits, mask_logits = exact(tensor)
        return semantic_logits(class_logits, mask_logits, scale=head.scale)

    return labels, logits


def compared(masks: MaskHead | None, head: HeadFacts) -> tuple[HeadFacts, float]:
    """What parity is measured with, and the share of equal pixels that it wants."""
    if masks is None:
        return head, WANTED_AGREEMENT
    return replace(head, original=_LABELS), LEAST_AGREEMENT
