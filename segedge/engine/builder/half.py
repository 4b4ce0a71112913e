"""The graph in the precision that an engine is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.engine.source import EngineSource
from segedge.errors import CardError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Images: TypeAlias = "Sequence[NDArray[Any]]"
"""Preprocessed network inputs, 3xHxW or Nx3xHxW float32."""
_MOST_IMAGES = 16


@dataclass(frozen=True)
class Prepared:
    """A graph as it goes to the parser."""

    data: bytes = field(repr=False)
    """The ONNX file's bytes."""
    notes: tuple[str, ...] = ()
    """What was done to it, in lines for people."""
    kept_fp32: tuple[str, ...] = ()
    """``node (operator): reason`` of each node that conversion left in fp32."""
    seconds: float = 0.0
    """How long that took."""


def network_inputs(where: str, card: ModelCard | None, *, limit: int = _MOST_IMAGES) -> Images:
    """The user's images, at most ``limit``, as the network gets them."""
    from segedge.reference.frame import preprocess
    from segedge.video.sources.sample import sample_images

    if card is None:
        raise CardError(
            "--images needs a model with a card: how its inputs are prepared is unknown",
            fix="segedge export MODEL.onnx --classes ... writes one, or leave --images out",
        )
    sample = sample_images([where], limit=limit, option="--images")
    return [
        preprocess(image, card, card.place(Size(*image.shape[:2]))) for image in sample.pixels()
    ]


def half_graph(
    source: EngineSource, *, keep_fp32: tuple[str, ...], images: Images | None
) -> Prepared:
    """The fp16 form of a model; ``keep_fp32`` holds patterns of node names to leave in fp32."""
    from segedge.graph.kit import load_model, to_bytes
    from segedge.precision.fp16.fp16 import to_fp16

    converted, report = to_fp16(load_model(source.path), keep=keep_fp32, images=images)
    return Prepared(to_bytes(converted), tuple(report.lines()), tuple(map(str, report.kept)))
