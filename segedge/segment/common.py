"""What segmenters of one network on the CPU have in common: threads, memory, and tables.

Whoever opens a file shows it a test picture, and then frames: the second segmenter finds threads
that have started and memory that has been touched. What the picture needs is made while the
backend opens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu.code import Code, is_plain, kernels
from segedge.cpu.memory import ArrayPool
from segedge.cpu.plan import Axis
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.frames.frame import Frame
from segedge.machine.processors import usable_processors
from segedge.options.cleaning import Cleaning
from segedge.segment.drawing_on_host import Renderer
from segedge.segment.windows import Infer, SlidePlan


@dataclass
class Whole:
    """The whole frame, brought to the network's size."""

    preprocessor: Preprocess
    geometry: Geometry
    tensor: NDArray[Any]

    def run(self, frame: Frame, infer: Infer, pool: ArrayPool) -> NDArray[Any]:
        """The frame's logits; the twin of `SlidePlan.run`."""
        with frame.times.measure("preprocess"):
            self.preprocessor.run(frame.image_hwc, self.tensor)
        with frame.times.measure("network"):
            return infer(self.tensor)


@dataclass
class Plan:
    """Tables and buffers for one frame size."""

    way: Whole | SlidePlan
    """How the frame comes to the network."""
    renderers: dict[Size, Renderer] = field(default_factory=dict)


class Common:
    """Used by one segmenter at a time; the last one ends its threads."""

    def __init__(self, threads: int | None = None, code: Code = kernels) -> None:
        """Nothing has started yet; ``threads`` None takes all available."""
        self.code = code
        self.workers = Workers(threads or usable_processors())
        self.pool = ArrayPool()
        self._tensors: dict[tuple[tuple[int, ...], str], NDArray[Any]] = {}
        self._ahead: dict[tuple[Any, ...], Plan] = {}

    def plan(self, card: ModelCard, frame: Size, network: Size, dtype: str) -> Plan:
        """Of whole frames of a size: what was made ahead, else a new one."""
        ahead = self._ahead.pop((card, frame, network, dtype), None)
        return ahead or self._new_plan(card, frame, network, dtype)

    def renderer(
        self, card: ModelCard, geometry: Geometry, grid: Size, *, cleaning: Cleaning | None = None,
        axes: tuple[Axis, Axis] | None = None, workers: Workers | None = None,
    ) -> Renderer:  # fmt: skip
        """What draws frames by logits on a grid; by these threads, if no others are given."""
        tail = Tail(
            card, geometry, grid, workers=workers or self.workers,
            cleaning=cleaning, axes=axes, code=self.code,
        )  # fmt: skip
        return Renderer(card, geometry, grid, tail, pool=self.pool)

    def rehearse(self, card: ModelCard, picture: NDArray[np.uint8], network: Size) -> None:
        """Make what a picture needs and bring it to the network's size, for a first time.

        It is of use to networks that read float32 and give logits as fine as the card says.
        """
        size, dtype = Size(*picture.shape[:2]), "float32"
        plan = self._ahead[card, size, network, dtype] = self._new_plan(card, size, network, dtype)
        height, width = (-(-length // card.stride) for length in (network.height, network.width))
        grid = Size(height, width)
        plan.renderers[grid] = self.renderer(card, plan.way.geometry, grid)
        if not is_plain(self.code()) and isinstance(plan.way, Whole):
            plan.way.preprocessor.run(picture, plan.way.tensor)

    def _new_plan(self, card: ModelCard, frame: Size, network: Size, dtype: str) -> Plan:
        """The tensor is that of all other plans: each frame writes all of it."""
        geometry = card.place(frame, network)
        preprocessor = Preprocess(card, geometry, workers=self.workers, dtype=dtype, code=self.code)
        key = (preprocessor.shape, dtype)
        if key not in self._tensors:
            self._tensors[key] = np.zeros(*key)
        return Plan(Whole(preprocessor, geometry, self._tensors[key]))
