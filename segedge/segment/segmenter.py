"""Segmenter: a model and everything around it; one frame in, one Result out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import Backend
from segedge.card.card import ModelCard
from segedge.card.familiar import Familiar
from segedge.card.geometry import Geometry, Size
from segedge.card.labels import names_in
from segedge.cpu.code import Code, kernels
from segedge.errors import BackendError
from segedge.frames.closing import Closing
from segedge.frames.frame import Frame
from segedge.frames.turns import Turns
from segedge.options.frame import FrameOptions
from segedge.options.smoothing import WARM_UP, Flicker, Smoothing
from segedge.segment.checked import Checked
from segedge.segment.common import Common, Plan, Whole
from segedge.segment.drawing import WARMED
from segedge.segment.drawing_on_host import HostDrawing, Renderer
from segedge.segment.fitting import LOAD_ANEW, check_network, checked_image, network_size
from segedge.segment.plans import Plans
from segedge.segment.result import Result
from segedge.segment.windows import SlidePlan, window_size

if TYPE_CHECKING:
    from segedge.cpu.plan import Axis
    from segedge.cpu.ready import Ready
    from segedge.cpu.smoothing import SmoothStreams
    from segedge.cpu.workers import Workers
    from segedge.segment.moving import Moving


class Segmenter(Closing):
    """A network with its preprocessing and tail, on the CPU.

    Any thread may call it; calls wait for each other, as each uses all processors by itself.
    Results are independent of it and of each other and may be used in other threads. Close it, or
    use it in a ``with`` statement.
    """

    backend_name = "given"
    """As it was asked for, with its variant; what `auto` took."""
    backend_reason = "given"
    checked: Checked | None = None
    """What came of the file's proof on this backend; None where it was not checked."""
    familiar: Familiar | None = None
    """What its answers look like on images that it knows; None where its file does not say."""
    notes: tuple[str, ...] = ()
    """What the user should know; nothing here."""

    def __init__(
        self,
        card: ModelCard,
        backend: Backend,
        *,
        options: FrameOptions | None = None,
        threads: int | None = None,
        code: Code = kernels,
        ready: Ready | None = None,
        common: Common | None = None,
    ) -> None:
        """Put a network and its card together.

        Args:
            card: What the network wants and gives.
            backend: The opened network.
            options: What is done with every frame; None: nothing special.
            threads: CPU threads for preprocessing and tail; None takes all available.
            code: Which code they run.
            ready: Says it instead, while kernels become ready; closed with the segmenter.
            common: Threads, memory and code of a segmenter before this one, instead of new ones.

        Raises:
            CardError: Card and network contradict each other.
            BackendError: The backend's memory is not the host's.
            UsageError: The network cannot have these options.
        """
        if backend.memory != "host":
            raise BackendError(
                "this segmenter takes host backends", facts={"found": backend.memory}
            )
        self.card = card
        self.backend = backend
        self.options = options or FrameOptions()
        self.options.check(card)
        smoothing, slide = self.options.smoothing, self.options.slide
        self._ready = ready
        self._smoother = None if smoothing is None else _smooth_streams(card, smoothing)
        self._input, self._output = check_network(card, backend)
        self._network_size = network_size(card, self._input)
        self.windows = ""
        """The windows that slide over each frame, for people; empty where none do."""
        if slide is not None:
            self.windows = slide.describe(window_size(card, self._input, slide))
        self._common = common or Common(threads, ready or code)
        self._workers, self.pool = self._common.workers, self._common.pool
        self._plans = Plans(self._new_plan)
        self._turns = Turns("the segmenter", self._free, fix=LOAD_ANEW)
        self._output_shapes: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}

    def __call__(self, image: Frame | NDArray[np.uint8], *, outputs: Iterable[str] = ()) -> Result:
        """Segment one image.

        Args:
            image: H x W x 3 uint8 BGR, or a `Frame` that holds one.
            outputs: What to compute at once, fused in one pass: any of ``labels``, ``overlay``,
                ``confidence``, ``mean_confidence``, ``class_pixels``. Anything else is
                computed when first asked for.

        Returns:
            A result that owns its logits and keeps a reference to the image.

        Raises:
            UsageError: The image has another type or shape, or the segmenter is closed.
            BackendError: The network failed.
        """
        frame = image if isinstance(image, Frame) else Frame(checked_image(image))
        with self._turns:
            return self.show(frame, self._look(frame), outputs)

    def look(self, frame: Frame) -> NDArray[Any]:
        """The frame's logits by the network, smoothed where that is wanted."""
        with self._turns:
            return self._look(frame)

    def _look(self, frame: Frame) -> NDArray[Any]:
        plan = self._plans.of(Size(*frame.size))
        logits = plan.way.run(frame, self._infer, self.pool)
        if self._smoother is not None and frame.stream is not None:
            assert isinstance(plan.way, Whole), "smoothing is refused with windows"
            with frame.times.measure("smoothing"):
                self._smoother.run(frame, logits, plan.way.tensor, self._workers)
        return logits

    def show(self, frame: Frame, logits: NDArray[Any], outputs: Iterable[str]) -> Result:
        """The result of a frame by its logits, from `look`."""
        plan, grid = self._plans.of(Size(*frame.size)), self.card.grid_size(logits.shape)
        if grid not in plan.renderers:
            axes = plan.way.grid.axes if isinstance(plan.way, SlidePlan) else None
            plan.renderers[grid] = self.renderer(plan.way.geometry, grid, axes=axes)
        drawing = HostDrawing(frame, logits, plan.renderers[grid])
        result = Result(frame, self.card, drawing, self.options.style)
        result.compute(outputs)
        return result

    def geometry(self, frame: Size) -> Geometry:
        """How frames of a size lie in the network's input."""
        return self.card.place(frame, self._network_size)

    def renderer(
        self, geometry: Geometry, grid: Size, *,
        axes: tuple[Axis, Axis] | None = None, workers: Workers | None = None,
    ) -> Renderer:  # fmt: skip
        """What draws frames of one size by logits on a grid, one at a time; see `Tail`."""
        cleaning = self.options.cleaning
        return self._common.renderer(
            self.card, geometry, grid, cleaning=cleaning, axes=axes, workers=workers
        )

    def moving(self, *, live: bool) -> Moving | None:
        """What takes the frames of one video where `FrameOptions.motion` is asked for, else None.

        It is asked once a video: each has a past of its own.
        """
        self._turns.check_open()
        motion = self.options.motion
        if motion is None:
            return None
        from segedge.segment.carrying_on_host import HostCarrying
        from segedge.segment.moving import Moving
        from segedge.segment.moving_live import LiveMoving

        carrying = HostCarrying(self, self._workers)
        if live and motion.independent:
            return LiveMoving(carrying, motion)
        return Moving(carrying, motion, live=live)

    def stream(
        self, frames: Iterable[Frame | NDArray[np.uint8]], *, outputs: Iterable[str] = ()
    ) -> Iterator[Result]:
        """Segment many images, in order, one at a time; `segedge.pipeline` overlaps the stages."""
        wanted = names_in(outputs)
        for frame in frames:
            yield self(frame, outputs=wanted)

    def warm_up(self, size: Size, *, outputs: Iterable[str] = WARMED) -> None:
        """Compile and allocate for a frame size, so that the first real frame is not slow."""
        blank = np.zeros((size.height, size.width, 3), np.uint8)
        self(Frame(blank, stream=WARM_UP), outputs=outputs)
        self.reset(WARM_UP)
        moving = self.moving(live=False)
        if moving is not None:
            for _ in range(3):  # a key, one between, the next key
                deque(moving.push(Frame(blank), outputs), maxlen=0)
            deque(moving.end(outputs), maxlen=0)

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
        self._turns.close()

    def _free(self) -> None:
        if self._ready is not None:
            self._ready.close()
        self.backend.close()
        self._plans.clear()
        self._workers.close()

    def _new_plan(self, size: Size) -> Plan:
        slide, spec = self.options.slide, self._input
        if slide is not None:
            return Plan(SlidePlan(self.card, size, slide, spec=spec, workers=self._workers))
        return self._common.plan(self.card, size, self._network_size, np.dtype(spec.dtype).name)

    def _infer(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Run the network into pooled arrays; the backend's own, at first, tell their shapes."""
        index, shapes = self.backend.specs[1].index(self._output), self._output_shapes
        if tensor.shape not in shapes:
            arrays = self.backend.run([tensor])
            shapes[tensor.shape] = tuple(array.shape for array in arrays)
            first: NDArray[Any] = arrays[index]
            return first
        outputs = [
            self.pool.take(shape, np.dtype(spec.dtype))
            for shape, spec in zip(shapes[tensor.shape], self.backend.specs[1], strict=True)
        ]
        self.backend.run([tensor], outputs)
        return outputs[index]


def _smooth_streams(card: ModelCard, smoothing: Smoothing) -> SmoothStreams:
    from segedge.cpu.smoothing import SmoothStreams

    return SmoothStreams(card, smoothing)
