"""CudaSegmenter: a network and everything around it on the GPU; the twin of `Segmenter`."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import DeviceBackend
from segedge.card.axes import image_shape
from segedge.card.card import ModelCard
from segedge.card.familiar import Familiar
from segedge.card.geometry import Size
from segedge.card.labels import names_in
from segedge.cuda.foreign import DeviceFrame, Nv12Frame, device_frame, foreign_stream, is_on_device
from segedge.cuda.plan import FramePlan, Tensor
from segedge.cuda.pool import Lane, Lease, SlotPool
from segedge.cuda.preprocess import Color, PixelFormat
from segedge.cuda.runtime.array import contiguous_strides
from segedge.cuda.runtime.device import Device
from segedge.cuda.slot import Request, Slot, Source
from segedge.cuda.smoothing import Follow, Smooth, SmoothStreams
from segedge.errors import BackendError, UsageError
from segedge.frames.closing import Closing
from segedge.frames.frame import Frame
from segedge.frames.turns import Turns
from segedge.options.frame import FrameOptions
from segedge.options.smoothing import WARM_UP, Flicker
from segedge.segment.carrying_on_gpu import DeviceCarrying
from segedge.segment.checked import Checked
from segedge.segment.drawing import WARMED, checked_outputs, maps_of
from segedge.segment.drawing_on_gpu import DeviceDrawing, DeviceRenderer
from segedge.segment.fitting import LOAD_ANEW, check_network, network_size
from segedge.segment.moving import Moving
from segedge.segment.planes import host_planes
from segedge.segment.result import Result

_PLANS_KEPT = 4
"""Frame sizes whose slots are kept; a stream that changes size does not grow memory."""
LEGACY_DEFAULT = 1
"""Handle of the legacy default stream, as the CUDA array interface writes it."""
_log = logging.getLogger("segedge.cuda")


class CudaSegmenter(Closing):
    """A network with its preprocessing and tail, on a GPU.

    From a frame in memory to labels and overlay in one launch. Results are returned at once and
    wait for the GPU when they are looked at, so that copies and host work of one frame overlap with
    the GPU's work on another. Any thread may call it, and calls wait for each other; results may be
    used in other threads.
    """

    backend_name = "given"
    backend_reason = "given"
    familiar: Familiar | None = None
    """What its answers look like on images that it knows; None where its file does not say."""
    checked: Checked | None = None
    """What came of the file's proof on this backend; None where it was not checked."""
    windows = ""
    """Of the windows that slide over each frame: none do."""

    def __init__(
        self,
        card: ModelCard,
        backend: DeviceBackend,
        *,
        options: FrameOptions | None = None,
        slots: int = 2,
        graphs: bool = True,
        timed: bool = False,
    ) -> None:
        """Put a network and its card together.

        Args:
            card: What the network wants and gives.
            backend: The opened network, whose memory is ``cuda``.
            options: What is done with every frame; None: nothing special.
            slots: Frames in flight on the GPU at once; each needs scratch memory for the network.
            graphs: Replay a captured graph a frame; else launch each kernel by itself.
            timed: Time each stage by events instead; switches graphs off.

        Raises:
            CardError: Card and network contradict each other.
            BackendError: The backend's memory is not the GPU's.
            UsageError: No slots, or the network or a GPU cannot have these options.
        """
        if backend.memory != "cuda":
            raise BackendError("CudaSegmenter takes GPU backends", facts={"found": backend.memory})
        if slots < 1:
            raise UsageError("at least one slot", facts={"found": str(slots)})
        self.card = card
        self.backend = backend
        self.options = options or FrameOptions()
        self._refuse_slide()
        self.options.check(card)
        self._device: Device = backend.device
        self._device.make_current()
        self._tensor, self._outputs, self._head = self._shapes()
        self._smooth = self._make_smooth()
        smooth = self._smooth
        self._smoother = None if smooth is None else SmoothStreams(self._device, smooth)
        self._lanes = self._make_lanes(slots)
        self._graphs, self._timed = graphs, timed
        self._plans: OrderedDict[Any, tuple[SlotPool, DeviceRenderer]] = OrderedDict()
        self._in_flight: deque[Slot] = deque()
        self._turns = Turns("the segmenter", self._free, fix=LOAD_ANEW)
        self.notes: tuple[str, ...] = ()
        """What the user should know: why frames are not one launch."""

    def _refuse_slide(self) -> None:
        """A frame's own launch holds one window, from upload to labels."""
        if self.options.slide is not None:
            raise UsageError(
                "windows do not slide on the GPU: there a frame is one captured launch of the"
                " network",
                facts={"backend": self.backend.description},
                fix="leave --slide out, or take a host backend: openvino, onnxruntime",
            )

    def _shapes(self) -> tuple[Tensor, tuple[Tensor, ...], int]:
        """The network's tensors at the card's size."""
        card, backend = self.card, self.backend
        first, head = check_network(card, backend)
        shape = image_shape(card.input_layout, network_size(card, first))
        shapes = backend.output_shapes([shape])
        specs = backend.specs[1]
        outputs = tuple(Tensor(s, np.dtype(p.dtype)) for s, p in zip(shapes, specs, strict=True))
        return Tensor(shape, np.dtype(first.dtype)), outputs, specs.index(head)

    def _make_smooth(self) -> Smooth | None:
        smoothing = self.options.smoothing
        if smoothing is None:
            return None
        logits = self._outputs[self._head]
        return Smooth(
            self.card, self.card.grid_size(logits.shape),
            self.card.size_of_input(self._tensor.shape),
            smoothing=smoothing, dtype=logits.dtype, tensor_dtype=self._tensor.dtype,
        )  # fmt: skip

    def _make_lanes(self, count: int) -> tuple[Lane, ...]:
        lanes = [Lane(self.backend, self._device.stream())]
        for _ in range(count - 1):
            twin = self.backend.fork()
            if twin is None:  # its work must be on one stream: the lane is shared
                break
            lanes.append(Lane(twin, self._device.stream()))
        return tuple(lanes)

    def __call__(
        self,
        image: Any,
        *,
        outputs: Iterable[str] = (),
        to_host: bool = True,
        pixel_format: PixelFormat = "bgr",
        stream: Any = None,
    ) -> Result:
        """Segment one image.

        Args:
            image: H x W x 3 uint8, a NumPy array or an array of PyTorch, CuPy, Numba, PyCUDA or
                DLPack in GPU memory; an `Nv12Frame`; or a `Frame` that holds one of them.
            outputs: What to compute in the same launch: any of ``labels``, ``overlay``,
                ``confidence``, ``mean_confidence``, ``class_pixels``. Anything else is
                computed when first asked for.
            to_host: Copy the outputs to the CPU, too. Without, `Result.on_device` has them.
            pixel_format: Channels of ``image``: ``bgr``, ``rgb``, ``bgra``, ``rgba``, ``gray``.
            stream: The caller's CUDA stream: the image is read after what is enqueued on it, and
                what is enqueued on it afterwards finds the outputs ready.

        Returns:
            A result, at once; it waits for the GPU when it is looked at.

        Raises:
            UsageError: The image has another type, shape or layout, or the segmenter is closed.
            DeviceError: Not enough memory, an array of another GPU, a stream of another context.
            BackendError: The network failed.
        """
        frame = image if isinstance(image, Frame) else Frame(image)
        names = maps_of(checked_outputs(outputs, self.options.style))
        with self._turns:
            self._device.make_current()
            while len(self._in_flight) >= max(len(self._lanes), 1):
                self._in_flight.popleft().wait()
            if is_on_device(frame.image_hwc):
                seen = device_frame(frame.image_hwc, self._device, pixel_format=pixel_format)
                size, kind = seen.size, seen.pixel_format
                lease, renderer = self._lease(size, kind, _color(frame.image_hwc))
                producer = seen.stream if stream is None else stream
                lease.kept = frame.image_hwc
                self._take(lease.slot, seen, producer)
                source: Source = "device"
            else:
                lease, renderer, source = self._brought(frame, pixel_format, stream)
                size = renderer.plan.frame
            lease.kept = lease.kept, renderer  # whose tints are read, too
            render = renderer.render(names, self.options.style)
            follow = self._follow(frame, lease, size)
            lease.slot.enqueue(Request(render, source, to_host, follow is not None), follow)
            self._heed(lease.slot)
            self._in_flight.append(lease.slot)
            if stream is not None:
                lease.slot.join(foreign_stream(stream, self._device))
            drawing = DeviceDrawing(frame, lease, renderer, computed=names, to_host=to_host)
            return Result(frame, self.card, drawing, self.options.style)

    def moving(self, *, live: bool) -> Moving | None:
        """What takes the frames of one video where `FrameOptions.motion` is asked for, else None.

        It is asked once a video: each has a past of its own. The network works in turn.
        """
        self._turns.check_open()
        motion = self.options.motion
        return None if motion is None else Moving(DeviceCarrying(self), motion, live=live)

    def take(self, frame: Frame, *, is_carried: bool) -> tuple[Lease, DeviceRenderer, Source]:
        """A slot with a frame of the CPU in it, for the network or to be carried to."""
        if is_on_device(frame.image_hwc):
            raise UsageError(
                "motion is found on the CPU, and the frame lies on the GPU",
                fix="hand in frames in memory of the CPU, or leave motion out",
            )
        with self._turns:
            self._device.make_current()
            return self._brought(frame, "bgr", None, is_carried=is_carried)

    def look(self, lease: Lease, renderer: DeviceRenderer, source: Source) -> None:
        """Enqueue the network for a frame that was taken."""
        with self._turns:
            lease.slot.enqueue(Request(renderer.render((), self.options.style), source, False))
            self._heed(lease.slot)

    def _brought(
        self, frame: Frame, pixel_format: PixelFormat, stream: Any, *, is_carried: bool = False
    ) -> tuple[Lease, DeviceRenderer, Source]:
        """A slot with a frame of the CPU in it, or about to be."""
        planes, kind = host_planes(frame.image_hwc, pixel_format)
        size = Size(*planes[0].shape[:2])
        lease, renderer = self._lease(size, kind, _color(frame.image_hwc), is_carried=is_carried)
        lease.kept = frame.image_hwc
        with frame.times.measure("staging"):
            return lease, renderer, self._stage(lease.slot, planes, stream)

    def _follow(self, frame: Frame, lease: Lease, size: Size) -> Follow | None:
        """The past that a frame continues, kept until it is done; None: it is not smoothed."""
        if self._smoother is None or frame.stream is None:
            return None
        follow = self._smoother.follow(frame, frame.stream, (size,))
        lease.kept = lease.kept, follow
        return follow

    def _heed(self, slot: Slot) -> None:
        """Say once why frames are not one launch, and do not try it with further slots."""
        if not slot.refusal or self.notes:
            return
        self.notes = (f"CUDA graph refused, kernels are launched one by one: {slot.refusal}",)
        self._graphs = False
        _log.warning(self.notes[0])

    def _take(self, slot: Slot, frame: DeviceFrame, producer: Any) -> None:
        """Copy a frame that lies on the GPU, after the stream that makes it."""
        # PyTorch and PyCUDA do not say where an array is written: as a rule, on the legacy default
        # stream, for which ours do not wait by themselves.
        handle = LEGACY_DEFAULT if producer is None else producer
        slot.stream.wait(foreign_stream(handle, self._device))
        slot.begin()
        slot.frame.take(frame)

    def _stage(self, slot: Slot, planes: Sequence[NDArray[np.uint8]], stream: Any) -> Source:
        """Bring a frame from the CPU: page-locked memory is read where it is."""
        if stream is not None:
            slot.stream.wait(foreign_stream(stream, self._device))
        if self._is_pinned(planes):
            slot.begin()
            slot.frame.upload(planes)
            return "device"
        slot.frame.stage(planes)
        slot.begin()
        return "host"

    def _is_pinned(self, planes: Sequence[NDArray[np.uint8]]) -> bool:
        rows = all(
            plane.strides[1:] == contiguous_strides(plane.shape, 1)[1:]
            and plane.strides[0] >= plane[0].nbytes  # else rows run backwards or repeat
            for plane in planes
        )
        return rows and all(self._device.is_pinned(plane.ctypes.data) for plane in planes)

    def _lease(
        self,
        size: Size,
        pixel_format: PixelFormat,
        color: Color | None,
        *,
        is_carried: bool = False,
    ) -> tuple[Lease, DeviceRenderer]:
        key = size, pixel_format, color, is_carried
        if key not in self._plans:
            plan = FramePlan(
                self.card, size, tensor=self._tensor, outputs=self._outputs, head=self._head,
                pixel_format=pixel_format, color=color, effect=self.options.style.effect,
                smooth=self._smooth, cleaning=self.options.cleaning, is_carried=is_carried,
            )  # fmt: skip
            self._plans[key] = self._new_pool(plan), DeviceRenderer(self._device, plan)
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)[1][0].close()
        self._plans.move_to_end(key)
        pool, renderer = self._plans[key]
        lease = pool.take()
        if lease.slot.was_lent:
            # A tensor may be dropped while a kernel still reads it. Its stream is not known, but
            # as a rule it is the legacy default one; others are named with ``stream=``.
            lease.slot.stream.wait(foreign_stream(LEGACY_DEFAULT, self._device))
            lease.slot.was_lent = False
        return lease, renderer

    def _new_pool(self, plan: FramePlan) -> SlotPool:
        def make(lane: Lane, keep: bool) -> Slot:
            return Slot(
                self._device, plan, lane.network, stream=lane.stream,
                graphs=self._graphs and keep, timed=self._timed,
            )  # fmt: skip

        return SlotPool(self._lanes, make)

    def stream(
        self, frames: Iterable[Any], *, outputs: Iterable[str] = (), to_host: bool = True
    ) -> Iterator[Result]:
        """Segment many images, in order, as many in flight as there are slots."""
        wanted = names_in(outputs)
        ahead: deque[Result] = deque()
        for frame in frames:
            ahead.append(self(frame, outputs=wanted, to_host=to_host))
            if len(ahead) >= len(self._lanes):
                yield ahead.popleft()
        yield from ahead

    def frame_memory(self, size: Size) -> NDArray[np.uint8]:
        """Memory for an H x W x 3 frame that the GPU reads where it is, without another copy."""
        self._device.make_current()
        shape = (size.height, size.width, 3)
        return self._device.pinned(shape, np.uint8).array()

    def warm_up(self, size: Size, *, outputs: Iterable[str] = WARMED) -> None:
        """Compile, allocate and capture for a frame size, so that the first frame is not slow."""
        blank = np.zeros((size.height, size.width, 3), np.uint8)
        # All at once, so that each lane has its turn.
        frames = [Frame(blank, stream=WARM_UP) for _ in self._lanes]
        results = [self(frame, outputs=tuple(outputs)) for frame in frames]
        for result in results:
            result.wait()
        self.reset(WARM_UP)

    def reset(self, stream: int = 0) -> None:
        """Forget the past of a stream: the next frame is the first of another scene."""
        if self._smoother is not None:
            self._smoother.reset(stream)

    def flicker(self, stream: int = 0) -> Flicker | None:
        """Labels that changed in a stream where the image did not, up to the last frame.

        Waits for the GPU. None where it is not counted (``Smoothing(flicker=True)``) or no frame
        came yet.
        """
        self._device.make_current()
        return None if self._smoother is None else self._smoother.flicker(stream)

    def close(self) -> None:
        """Free the network and the slots; results already given out stay valid."""
        self._turns.close()

    def _free(self) -> None:
        while self._in_flight:
            self._in_flight.popleft().wait()
        if self._smoother is not None:
            self._smoother.clear()
        for pool, _ in self._plans.values():
            pool.close()
        self._plans.clear()
        for lane in self._lanes[1:]:
            lane.network.close()  # type: ignore[attr-defined]
        self.backend.close()


def _color(image: Any) -> Color | None:
    return image.color if isinstance(image, Nv12Frame) else None
