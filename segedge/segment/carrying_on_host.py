"""HostCarrying: frames of a video on the CPU, whose network sees some of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu.agreement import agreement
from segedge.cpu.memory import ArrayPool
from segedge.cpu.motion import Carrier, Key
from segedge.cpu.plan import Axis
from segedge.cpu.workers import Workers
from segedge.frames.frame import Frame
from segedge.motion.agreement import Agreement
from segedge.motion.carry import FINER
from segedge.options.frame import FrameOptions
from segedge.reference.motion import fused, past_share
from segedge.segment.drawing_on_host import HostDrawing, Renderer
from segedge.segment.moving import Source
from segedge.segment.plans import Plans
from segedge.segment.result import Result

_AT_ONCE = 2
"""Frames that are drawn at the same time, each by a share of the threads. Threads that share one
frame wait for each other several times in it: 2 threads took 0.8 of the time for two frames."""


class HostSegmenter(Protocol):
    """What carrying needs of `segedge.segment.segmenter.Segmenter`."""

    card: ModelCard
    options: FrameOptions
    pool: ArrayPool

    def look(self, frame: Frame) -> NDArray[Any]:
        """The frame's logits by the network."""

    def geometry(self, frame: Size) -> Geometry:
        """How frames of a size lie in the network's input."""

    def renderer(
        self, geometry: Geometry, grid: Size, *,
        axes: tuple[Axis, Axis] | None = None, workers: Workers | None = None,
    ) -> Renderer:  # fmt: skip
        """One of the caller's own, for one frame size and grid."""


@dataclass(frozen=True)
class _Kept:
    """A key's logits, as `Carrier` reads them."""

    grid: Size
    values: NDArray[np.float32]


@dataclass
class _Plan:
    """Tables and scratch for one frame size."""

    geometry: Geometry
    renderers: dict[Size, Renderer] = field(default_factory=dict)
    """By the grid that they draw from."""
    carriers: dict[tuple[Size, int], Carrier] = field(default_factory=dict)
    """By the grid that they carry from, and how much finer theirs is."""
    axes: dict[Size, tuple[Axis, Axis]] = field(default_factory=dict)
    """Of grids that are carried to: the geometry does not describe them."""


class HostCarrying:
    """Carries and draws, on the CPU; the network is its segmenter's. One frame at a time.

    `agree` and `keep` of one frame may run while another is carried and shown.
    """

    def __init__(self, segmenter: HostSegmenter, workers: Workers) -> None:
        """Begin."""
        self._segmenter, self._workers = segmenter, workers
        self._plans = Plans(lambda size: _Plan(segmenter.geometry(size)))

    def beside(self) -> list[HostCarrying]:
        """Those that carry and draw frames at the same time; none where there is one thread."""
        share = self._workers.count // _AT_ONCE
        if not share:
            return []
        return [HostCarrying(self._segmenter, Workers(share)) for _ in range(_AT_ONCE)]

    def end(self) -> None:
        """End the threads of one that came from `beside`; its results stay usable."""
        self._workers.close()

    def look(self, frame: Frame) -> NDArray[Any]:
        """The frame's logits by the network."""
        return self._segmenter.look(frame)

    def keep(self, frame: Frame, logits: NDArray[Any]) -> _Kept:
        """A copy of a key's logits."""
        grid = self._segmenter.card.grid_size(logits.shape)
        return _Kept(grid, self._carrier(frame, grid).keep(logits))

    def carry(self, frame: Frame, sources: Sequence[Source]) -> NDArray[Any]:
        """The logits of a frame from one key or two, on a finer grid than theirs."""
        return self._carried(frame, sources, FINER)

    def agree(self, frame: Frame, source: Source, logits: NDArray[Any]) -> Agreement:
        """How far a key's logits are what carrying would have said, at the points of its grid."""
        return agreement(self._planes(self._carried(frame, [source], 1)), self._planes(logits))

    def fuse(self, frame: Frame, source: Source, logits: NDArray[Any]) -> NDArray[Any]:
        """A key's logits, leaning on those carried to it; see `Motion.fuse`."""
        card, motion = self._segmenter.card, self._segmenter.options.motion
        assert motion is not None, "asked for by it"
        geometry, grid = self._plan(frame).geometry, source.logits.grid
        share = past_share(source.field, card, geometry, grid, share=motion.fuse)
        carried = self._planes(self._carried(frame, [source], 1))
        planes = fused(self._planes(logits), carried, share)
        is_nhwc = card.logits_layout == "nhwc"
        return np.ascontiguousarray((planes.transpose(1, 2, 0) if is_nhwc else planes)[None])

    def show(self, frame: Frame, logits: NDArray[Any], outputs: Iterable[str]) -> Result:
        """The result of a frame by its logits, its network's or carried ones."""
        plan, segmenter = self._plan(frame), self._segmenter
        grid = segmenter.card.grid_size(logits.shape)
        renderer = plan.renderers.get(grid)
        if renderer is None:
            renderer = plan.renderers[grid] = segmenter.renderer(
                plan.geometry, grid, axes=plan.axes.get(grid), workers=self._workers
            )
        drawing = HostDrawing(frame, logits, renderer)
        result = Result(frame, segmenter.card, drawing, segmenter.options.style)
        result.compute(outputs)
        return result

    def _carried(self, frame: Frame, sources: Sequence[Source], finer: int) -> NDArray[Any]:
        carrier = self._carrier(frame, sources[0].logits.grid, finer)
        logits = self._segmenter.pool.take(carrier.shape, np.float32)
        carrier.run([Key(s.logits.values, s.field, s.frames) for s in sources], logits)
        return logits

    def _carrier(self, frame: Frame, grid: Size, finer: int = FINER) -> Carrier:
        plan = self._plan(frame)
        carrier = plan.carriers.get((grid, finer))
        if carrier is None:
            carrier = plan.carriers[grid, finer] = Carrier(
                self._segmenter.card, plan.geometry, grid, finer=finer, workers=self._workers
            )
            if finer > 1:
                plan.axes[carrier.grid] = carrier.axes
        return carrier

    def _plan(self, frame: Frame) -> _Plan:
        return self._plans.of(Size(*frame.size))

    def _planes(self, logits: NDArray[Any]) -> NDArray[Any]:
        is_nhwc = self._segmenter.card.logits_layout == "nhwc"
        planes: NDArray[Any] = logits[0].transpose(2, 0, 1) if is_nhwc else logits[0]
        return planes
