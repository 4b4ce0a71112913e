"""What a graph's end is, and what is put behind it: what is found, settled and then cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segedge.card.axes import Layout
from segedge.card.card import Head
from segedge.card.geometry import Size
from segedge.convert.options import TailReport
from segedge.convert.passes.chain import TailState
from segedge.graph.kit import Value
from segedge.graph.operators import Operator

TO_FLOAT = (Operator("Cast", attributes={"to": 1}),)
"""Integers to float32."""


@dataclass(frozen=True)
class HeadFacts:
    """What the graph's output is once its tail is cut, and what the original's is."""

    head: Head
    """logits, or labels already."""
    layout: Layout
    """Axis order of the logits."""
    channels: int | None
    """Class channels; None for labels of which nothing more is known."""
    grid: Size
    """Rows and columns of the output."""
    align_corners: bool
    """How the grid lies on the input."""
    probabilities: bool
    """Whether the output is probabilities rather than logits: an activation stayed inside."""
    original: TailState
    """What the original's output is."""
    tail: TailReport
    """What is removed."""
    shift: float = 0.0
    """What is subtracted from a single channel, so that its threshold is 0."""
    negated: bool = False
    """Whether that is then turned round: the second class is what lies below the threshold."""
    scale: float = 1.0
    """What a single channel is divided by then: the range of what is no probability of 0 to 1."""
    limit: float | None = None
    """What the original writes from which on a pixel is of the second class, where it writes one
    channel of numbers."""
    is_asked: bool = False
    """Whether the user named it."""
    notes: tuple[str, ...] = ()
    """What was decided, a sentence each."""


@dataclass(frozen=True)
class FoundHead:
    """Where a graph shall end."""

    facts: HeadFacts
    """What its output is then."""
    end: Value
    """The value behind which all is dropped."""
    behind: tuple[Operator, ...] = ()
    """What is put there instead."""
    shape: tuple[int, ...] | None = None
    """The real shape there, for one image of the chosen size."""


def one_channel(columns: int) -> tuple[Operator, ...]:
    """N x H x W, or N x 1 x H x W, as the latter."""
    return (Operator("Reshape", (np.array([0, 1, -1, columns], np.int64),)),)


def about_zero(shift: float, *, negated: bool = False, scale: float = 1) -> tuple[Operator, ...]:
    """A single channel as the runtime's tail wants it: its threshold is 0."""
    moved = (Operator("Sub", (np.array(shift),)),) if shift else ()
    scaled = (Operator("Div", (np.array(scale),)),) if scale != 1 else ()
    return (*moved, *scaled, *((Operator("Neg"),) if negated else ()))
