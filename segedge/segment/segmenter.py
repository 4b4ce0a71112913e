"""Segmenter: a model and everything around it; one frame in, one Result out."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import Backend
from segedge.card.card import ModelCard
from segedge.card.familiar import Familiar
from segedge.card.geometry import Size
from segedge.cpu.code import Code, kernels
from segedge.errors import BackendError
from segedge.frames.closing import Closing
from segedge.frames.frame import Frame
from segedge.motion.carry import FINER
from segedge.options.frame import FrameOptions
from segedge.options.smoothing import WARM_UP, Flicker, Smoothing
from segedge.segment.checked import Checked
from segedge.segment.common import Common, Plan, Whole
from segedge.segment.drawing import WARMED
from segedge.segment.drawing_on_host import HostDrawing, Renderer
from segedge.segment.fitting import check_network, checked_image, network_size
from segedge.segment.result import Result
from segedge.segment.windows import SlidePlan, window_size

if TYPE_CHECKING:
    from segedge.cpu.motion import Carrier, Key
    from segedge.cpu.ready import Ready
    from segedge.cpu.smoothing import SmoothStreams
    from segedge.motion.agreement import Agreement
    from segedge.segment.moving import Moving, Source

_PLANS_KEPT = 4
"""Frame sizes whose tables are kept: a folder of mixed images does not grow memory."""


class Segmenter(Closing):
    """A network with its preprocessing and tail, on the CPU.

    One call at a time; results are independent of it and of each other and may be used in other
    threads. Close it, or use it in a ``with`` statement.
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
        self._workers, self._pool = self._common.workers, self._common.pool
        self._plans: OrderedDict[Size, Plan] = OrderedDict()
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
        return self.show(frame, self.look(frame), outputs)

    def look(self, frame: Frame) -> NDArray[Any]:
        """The frame's logits by the network, smoothed where that is wanted."""
        plan = self._plan(frame)
        logits = plan.way.run(frame, self._infer, self._pool)
        if self._smoother is not None and frame.stream is not None:
            assert isinstance(plan.way, Whole), "smoothing is refused with windows"
            with frame.times.measure("smoothing"):
                self._smoother.run(frame, logits, plan.way.tensor, self._workers)
        return logits

    def show(self, frame: Frame, logits: NDArray[Any], outputs: Iterable[str]) -> Result:
        """The result of a frame by its logits, from `look` or `carry`."""
        drawing = HostDrawing(frame, logits, self._renderer(self._plan(frame), logits))
        result = Result(frame, self.card, drawing, self.options.style)
        result.compute(outputs)
        return result

    def keep(self, frame: Frame, logits: NDArray[Any]) -> KeptLogits:
        """A key frame's logits, to be carried from; see `segedge.segment.moving`."""
        grid = self.card.grid_size(logits.shape)
        return KeptLogits(grid, self._carrier(frame, grid).keep(logits))

    def carry(self, frame: Frame, sources: Sequence[Source]) -> NDArray[Any]:
        """The frame's logits from one key or two, on a finer grid than theirs."""
        carrier = self._carrier(frame, sources[0].logits.grid)
        logits = self._pool.take(carrier.shape, np.float32)
        carrier.run([_key_of(source) for source in sources], logits)
        return logits

    def agree(self, frame: Frame, source: Source, logits: NDArray[Any]) -> Agreement:
        """How far a key's logits are what carrying would have said, at the points of its grid."""
        from segedge.motion.agreement import agreement

        return agreement(self._carried_planes(frame, source), self._planes(logits))

    def fuse(self, frame: Frame, source: Source, logits: NDArray[Any]) -> NDArray[Any]:
        """A key's logits, leaning on those carried to it; see `Motion.fuse`."""
        from segedge.reference.motion import fused, past_share

        assert self.options.motion is not None, "asked for by it"
        share = past_share(
            source.field, self.card, self._plan(frame).way.geometry, source.logits.grid,
            share=self.options.motion.fuse,
        )  # fmt: skip
        planes = fused(self._planes(logits), self._carried_planes(frame, source), share)
        is_nhwc = self.card.logits_layout == "nhwc"
        return np.ascontiguousarray((planes.transpose(1, 2, 0) if is_nhwc else planes)[None])

    def _carried_planes(self, frame: Frame, source: Source) -> NDArray[Any]:
        carrier = self._carrier(frame, source.logits.grid, finer=1)
        carried = self._pool.take(carrier.shape, np.float32)
        carrier.run([_key_of(source)], carried)
        return self._planes(carried)

    def _planes(self, logits: NDArray[Any]) -> NDArray[Any]:
        is_nhwc = self.card.logits_layout == "nhwc"
        planes: NDArray[Any] = logits[0].transpose(2, 0, 1) if is_nhwc else logits[0]
        return planes

    def _carrier(self, frame: Frame, grid: Size, *, finer: int = FINER) -> Carrier:
        """Carries between grids of this size; its own grid is drawn through tables of its own."""
        plan = self._plan(frame)
        carrier = plan.carriers.get((grid, finer))
        if carrier is None:
            from segedge.cpu.motion import Carrier

            carrier = Carrier(
                self.card, plan.way.geometry, grid, finer=finer, workers=self._workers
            )
            plan.carriers[grid, finer] = carrier
            if finer > 1:
                plan.axes[carrier.grid] = carrier.axes
        return carrier

    def moving(self, *, live: bool) -> Moving | None:
        """What takes the frames of one video where `FrameOptions.motion` is asked for, else None.

        It is asked once a video: each has a past of its own.
        """
        motion = self.options.motion
        if motion is None:
            return None
        from segedge.segment.moving import Moving
        from segedge.segment.moving_live import LiveMoving

        if live and motion.independent:
            return LiveMoving(self, motion)
        return Moving(self, motion, live=live)

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
        if self._ready is not None:
            self._ready.close()
        self.backend.close()
        self._plans.clear()
        self._workers.close()

    def _plan(self, frame: Frame) -> Plan:
        size = Size(*frame.size)
        plan = self._plans.get(size)
        if plan is None:
            plan = self._plans[size] = self._new_plan(size)
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(size)
        return plan

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
            self._pool.take(shape, np.dtype(spec.dtype))
            for shape, spec in zip(shapes[tensor.shape], self.backend.specs[1], strict=True)
        ]
        self.backend.run([tensor], outputs)
        return outputs[index]

    def _renderer(self, plan: Plan, logits: NDArray[Any]) -> Renderer:
        grid = self.card.grid_size(logits.shape)
        if grid not in plan.renderers:
            self._common.add_renderer(plan, self.card, grid, self.options.cleaning)
        return plan.renderers[grid]


@dataclass(frozen=True)
class KeptLogits:
    """Of a key frame, as `Carrier` reads them."""

    grid: Size
    values: NDArray[np.float32]


def _smooth_streams(card: ModelCard, smoothing: Smoothing) -> SmoothStreams:
    from segedge.cpu.smoothing import SmoothStreams

    return SmoothStreams(card, smoothing)


def _key_of(source: Source) -> Key:
    from segedge.cpu.motion import Key

    return Key(source.logits.values, source.field, source.frames)
