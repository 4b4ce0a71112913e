"""Segmenter: a model and everything around it; one frame in, one Result out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import Backend
from segedge.backends.registry import (
    available_threads,
)
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu.effects import Effects, Look
from segedge.cpu.memory import ArrayPool
from segedge.cpu.overlay import Blend
from segedge.cpu.preprocess import Preprocessor
from segedge.cpu.smoothing import SmoothStreams
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.errors import BackendError, UsageError
from segedge.frames.frame import Frame
from segedge.options.cleaning import Cleaning
from segedge.options.sliding import Slide
from segedge.options.smoothing import WARM_UP, Flicker, Smoothing
from segedge.options.style import OverlayStyle
from segedge.segment.fitting import check_network, checked_image, network_size
from segedge.segment.result import WARMED, Rendering, Result
from segedge.segment.windows import Infer, SlidePlan, window_size

_PLANS_KEPT = 4
"""Frame sizes whose tables are kept: a folder of mixed images does not grow memory."""


def _refuse_smoothing(smoothing: Smoothing | None) -> None:
    """Where windows slide there is no one input of the network that tells where the image moved."""
    if smoothing is not None:
        raise UsageError(
            "neither smoothing nor flicker goes with sliding windows",
            fix="leave --smooth and --flicker out, or --slide",
        )


class Segmenter:
    """A network with its preprocessing and tail, on the CPU.

    One call at a time; results are independent of it and of each other and may be used in other
    threads. Close it, or use it in a ``with`` statement.
    """

    backend_name = "given"
    backend_reason = "given"
    notes: tuple[str, ...] = ()
    """What the user should know; nothing here."""

    def __init__(
        self,
        card: ModelCard,
        backend: Backend,
        *,
        threads: int | None = None,
        style: OverlayStyle | None = None,
        cleaning: Cleaning | None = None,
        slide: Slide | None = None,
        smoothing: Smoothing | None = None,
    ) -> None:
        """Put a network and its card together.

        Args:
            card: What the network wants and gives.
            backend: The opened network.
            threads: CPU threads for preprocessing and tail; None takes all available.
            style: How overlays look.
            cleaning: What is done with small regions of the labels; None leaves them.
            slide: Windows over the frame; None brings the whole frame to the network's size.
            smoothing: How logits lean on those of the frames before of the same `Frame.stream`;
                None: not at all.

        Raises:
            CardError: Card and network contradict each other.
            BackendError: The backend's memory is not the host's.
            UsageError: The cleaning names a class that the card lacks; the network takes no such
                windows; a smoothing with windows, or for a network that gives labels.
        """
        if backend.memory != "host":
            raise BackendError(
                "this segmenter takes host backends", facts={"found": backend.memory}
            )
        self.card = card
        self.backend = backend
        self.style = style or OverlayStyle()
        self.cleaning = cleaning or Cleaning()
        self.cleaning.check(card.classes)
        self.smoothing = smoothing
        self._smoother = None if smoothing is None else SmoothStreams(card, smoothing)
        self._input, self._output = check_network(card, backend)
        self._network_size = network_size(card, self._input)
        self.slide = slide
        self.window: Size | None = None
        """Size of the windows where they slide."""
        if slide is not None:
            _refuse_smoothing(smoothing)
            self.window = window_size(card, self._input, slide)
        self._workers = Workers(threads or available_threads())
        self._pool = ArrayPool()
        self._plans: OrderedDict[Size, _Plan] = OrderedDict()
        self._output_shapes: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}

    def __call__(self, image: Frame | NDArray[np.uint8], *, outputs: Iterable[str] = ()) -> Result:
        """Segment one image.

        Args:
            image: H x W x 3 uint8 BGR, or a `Frame` that holds one.
            outputs: What to compute at once, fused in one pass: any of ``labels``, ``overlay``,
                ``confidence``, ``class_pixels``. Anything else is computed when first asked for.

        Returns:
            A result that owns its logits and keeps a reference to the image.

        Raises:
            UsageError: The image has another type or shape.
            BackendError: The network failed.
        """
        frame = image if isinstance(image, Frame) else Frame(checked_image(image))
        plan = self._plan(frame)
        logits = plan.way.run(frame, self._infer, self._pool)
        if self._smoother is not None and frame.stream is not None:
            assert isinstance(plan.way, _Whole), "smoothing is refused with windows"
            with frame.times.measure("smoothing"):
                self._smoother.run(frame, logits, plan.way.tensor, self._workers)
        result = Result(frame, self.card, logits, self._rendering(plan, logits), self.style)
        result.compute(outputs)
        return result

    def stream(
        self, frames: Iterable[Frame | NDArray[np.uint8]], *, outputs: Iterable[str] = ()
    ) -> Iterator[Result]:
        """Segment many images, in order, one at a time; `segedge.pipeline` overlaps the stages."""
        wanted = tuple(outputs)
        for frame in frames:
            yield self(frame, outputs=wanted)

    def warm_up(self, size: Size, *, outputs: Iterable[str] = WARMED) -> None:
        """Compile and allocate for a frame size, so that the first real frame is not slow."""
        blank = np.zeros((size.height, size.width, 3), np.uint8)
        self(Frame(blank, stream=WARM_UP), outputs=outputs)
        self.reset(WARM_UP)

    def reset(self, stream: int = 0) -> None:
        """Forget the past of a stream: the next frame is the first of another scene."""
        if self._smoother is not None:
            self._smoother.reset(stream)

    def flicker(self, stream: int = 0) -> Flicker | None:
        """Labels that changed in a stream where the image did not, so far.

        None where it is not counted (``Smoothing(flicker=True)``) or no frame came yet.
        """
        return None if self._smoother is None else self._smoother.flicker(stream)

    def close(self) -> None:
        """Free the network and the threads; results already given out stay valid."""
        self.backend.close()
        self._plans.clear()
        self._workers.close()

    def __enter__(self) -> Segmenter:
        """Use in a ``with`` statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _plan(self, frame: Frame) -> _Plan:
        size = Size(*frame.size)
        plan = self._plans.get(size)
        if plan is None:
            plan = self._plans[size] = self._new_plan(size)
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(size)
        return plan

    def _new_plan(self, size: Size) -> _Plan:
        if self.slide is not None:
            slide, spec = self.slide, self._input
            return _Plan(SlidePlan(self.card, size, slide, spec=spec, workers=self._workers))
        geometry = Geometry.fit(size, self._network_size, self.card.fit)
        dtype = np.dtype(self._input.dtype)
        preprocessor = Preprocessor(self.card, geometry, workers=self._workers, dtype=dtype.name)
        return _Plan(_Whole(preprocessor, geometry, np.zeros(preprocessor.shape, dtype)))

    def _infer(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Run the network into pooled arrays; the first time the backend tells their shapes."""
        if tensor.shape not in self._output_shapes:
            arrays = self.backend.run([tensor])
            self._output_shapes[tensor.shape] = tuple(array.shape for array in arrays)
        shapes = self._output_shapes[tensor.shape]
        outputs = [
            self._pool.take(shape, np.dtype(spec.dtype))
            for shape, spec in zip(shapes, self.backend.specs[1], strict=True)
        ]
        self.backend.run([tensor], outputs)
        return outputs[self.backend.specs[1].index(self._output)]

    def _rendering(self, plan: _Plan, logits: NDArray[Any]) -> Rendering:
        grid = self.card.grid_size(logits.shape)
        if grid not in plan.tails:
            plan.tails[grid] = self._tail(plan, grid)
        effects = partial(plan.effects_of, self.card, grid, self._workers, self._pool)
        return Rendering(plan.tails[grid], plan.lock, self._pool, plan.blends, effects, plan.looks)

    def _tail(self, plan: _Plan, grid: Size) -> Tail:
        sliding = plan.way.grid if isinstance(plan.way, SlidePlan) else None
        return Tail(
            self.card, plan.way.geometry, grid, workers=self._workers, cleaning=self.cleaning,
            axes=sliding.axes if sliding else None,
        )  # fmt: skip


@dataclass
class _Whole:
    """The whole frame, brought to the network's size."""

    preprocessor: Preprocessor
    geometry: Geometry
    tensor: NDArray[Any]

    def run(self, frame: Frame, infer: Infer, pool: ArrayPool) -> NDArray[Any]:
        """The frame's logits; the twin of `SlidePlan.run`."""
        with frame.times.measure("preprocess"):
            self.preprocessor.run(frame.image_hwc, self.tensor)
        with frame.times.measure("network"):
            return infer(self.tensor)


@dataclass
class _Plan:
    """Tables and buffers for one frame size."""

    way: _Whole | SlidePlan
    """How the frame comes to the network."""
    tails: dict[Size, Tail] = field(default_factory=dict)
    blends: dict[OverlayStyle, Blend] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    effects: dict[Size, Effects] = field(default_factory=dict)
    looks: dict[OverlayStyle, Look] = field(default_factory=dict)

    def effects_of(self, card: ModelCard, grid: Size, workers: Workers, pool: ArrayPool) -> Effects:
        """What draws effects on this grid: tables and scratch, made when first asked for."""
        if grid not in self.effects:
            self.effects[grid] = Effects(
                card, self.way.geometry, grid, self.tails[grid], workers=workers, pool=pool
            )
        return self.effects[grid]
