"""CudaSegmenter: a network and everything around it on the GPU; the twin of `Segmenter`."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import DeviceBackend
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cuda.effects import Look, Tables
from segedge.cuda.foreign import DeviceFrame, Nv12Frame, device_frame, foreign_stream, is_on_device
from segedge.cuda.plan import FramePlan, Render, Tensor
from segedge.cuda.pool import Lane, Lease, SlotPool
from segedge.cuda.preprocess import CHANNELS_OF, Color, PixelFormat
from segedge.cuda.runtime.array import DeviceArray, contiguous_strides
from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.program import Plane
from segedge.cuda.slot import Request, Slot
from segedge.cuda.smoothing import Follow, Smooth, SmoothStreams
from segedge.errors import BackendError, UsageError, unknown_name_error
from segedge.frames.frame import Frame
from segedge.options.cleaning import Cleaning
from segedge.options.smoothing import WARM_UP, Flicker, Smoothing
from segedge.options.style import OverlayStyle
from segedge.segment.fitting import check_network, checked_image, network_size
from segedge.segment.result import OUTPUTS, WARMED
from segedge.segment.result_on_gpu import CudaResult

_PLANS_KEPT = 4
"""Frame sizes whose slots are kept; a stream that changes size does not grow memory."""
LEGACY_DEFAULT = 1
"""Handle of the legacy default stream, as the CUDA array interface writes it."""
_log = logging.getLogger("segedge.cuda")


class CudaSegmenter:
    """A network with its preprocessing and tail, on a GPU.

    From a frame in memory to labels and overlay in one launch. Results are returned at once and
    wait for the GPU when they are looked at, so that copies and host work of one frame overlap with
    the GPU's work on another. One call at a time; results may be used in other threads.
    """

    backend_name = "given"
    backend_reason = "given"
    cleaning = Cleaning()
    slide: None = None
    window: None = None

    def __init__(
        self,
        card: ModelCard,
        backend: DeviceBackend,
        *,
        style: OverlayStyle | None = None,
        cleaning: Cleaning | None = None,
        smoothing: Smoothing | None = None,
        slots: int = 2,
        graphs: bool = True,
        timed: bool = False,
    ) -> None:
        """Put a network and its card together.

        Args:
            card: What the network wants and gives.
            backend: The opened network, whose memory is ``cuda``.
            style: How overlays look.
            cleaning: What is done with small regions of the labels; None leaves them.
            smoothing: How logits lean on those of the frames before of the same `Frame.stream`;
                None: not at all.
            slots: Frames in flight on the GPU at once; each needs scratch memory for the network.
            graphs: Replay a captured graph a frame; else launch each kernel by itself.
            timed: Time each stage by events instead; switches graphs off.

        Raises:
            CardError: Card and network contradict each other.
            BackendError: The backend's memory is not the GPU's.
            UsageError: No slots; the cleaning names a class that the card lacks; a smoothing for a
                network that gives labels.
        """
        if backend.memory != "cuda":
            raise BackendError("CudaSegmenter takes GPU backends", facts={"found": backend.memory})
        if slots < 1:
            raise UsageError("at least one slot", facts={"found": str(slots)})
        self.card = card
        self.backend = backend
        self.style = style or OverlayStyle()
        self.cleaning = cleaning or Cleaning()
        self.cleaning.check(card.classes)
        self._device: Device = backend.device
        self._device.make_current()
        self._tensor, self._outputs, self._head = self._shapes()
        self.smoothing = smoothing
        self._smooth = self._make_smooth()
        smooth = self._smooth
        self._smoother = None if smooth is None else SmoothStreams(self._device, smooth)
        self._lanes = self._make_lanes(slots)
        self._graphs, self._timed = graphs, timed
        self._plans: OrderedDict[Any, _Frames] = OrderedDict()
        self._in_flight: deque[Slot] = deque()
        self.notes: tuple[str, ...] = ()
        """What the user should know: why frames are not one launch."""

    def _shapes(self) -> tuple[Tensor, tuple[Tensor, ...], int]:
        """The network's tensors at the card's size."""
        card, backend = self.card, self.backend
        first, head = check_network(card, backend)
        size = network_size(card, first)
        planes = (3, size.height, size.width)
        shape = (1, *planes) if card.input_layout == "nchw" else (1, *planes[1:], 3)
        shapes = backend.output_shapes([shape])
        specs = backend.specs[1]
        outputs = tuple(Tensor(s, np.dtype(p.dtype)) for s, p in zip(shapes, specs, strict=True))
        return Tensor(shape, np.dtype(first.dtype)), outputs, specs.index(head)

    def _make_smooth(self) -> Smooth | None:
        if self.smoothing is None:
            return None
        logits, first = self._outputs[self._head], 2 if self.card.input_layout == "nchw" else 1
        return Smooth(
            self.card, self.card.grid_size(logits.shape),
            Size(*self._tensor.shape[first : first + 2]),
            smoothing=self.smoothing, dtype=logits.dtype, tensor_dtype=self._tensor.dtype,
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
    ) -> CudaResult:
        """Segment one image.

        Args:
            image: H x W x 3 uint8, a NumPy array or an array of PyTorch, CuPy, Numba, PyCUDA or
                DLPack in GPU memory; an `Nv12Frame`; or a `Frame` that holds one of them.
            outputs: What to compute in the same launch: any of ``labels``, ``overlay``,
                ``confidence``, ``class_pixels``. Anything else is computed when first asked for.
            to_host: Copy the outputs to the CPU, too. Without, `CudaResult.on_device` has them.
            pixel_format: Channels of ``image``: ``bgr``, ``rgb``, ``bgra``, ``rgba``, ``gray``.
            stream: The caller's CUDA stream: the image is read after what is enqueued on it, and
                what is enqueued on it afterwards finds the outputs ready.

        Returns:
            A result, at once; it waits for the GPU when it is looked at.

        Raises:
            UsageError: The image has another type, shape or layout.
            DeviceError: Not enough memory, an array of another GPU, a stream of another context.
            BackendError: The network failed.
        """
        self._device.make_current()
        frame = image if isinstance(image, Frame) else Frame(image)
        names = self._names(outputs)
        while len(self._in_flight) >= max(len(self._lanes), 1):
            self._in_flight.popleft().wait()
        if is_on_device(frame.image_hwc):
            seen = device_frame(frame.image_hwc, self._device, pixel_format=pixel_format)
            size, kind = seen.size, seen.pixel_format
            lease, frames = self._lease(size, kind, _color(frame.image_hwc))
            producer = seen.stream if stream is None else stream
            lease.kept = frame.image_hwc, frames
            self._take(lease.slot, seen, producer)
            source = "device"
        else:
            planes, kind = _host_planes(frame.image_hwc, pixel_format)
            size = Size(*planes[0].shape[:2])
            lease, frames = self._lease(size, kind, _color(frame.image_hwc))
            lease.kept = frame.image_hwc, frames  # whose tints are read, too
            with frame.times.measure("staging"):
                source = self._stage(lease.slot, planes, stream)
        render = frames.render(self, names, self.style)
        follow = self._follow(frame, lease, size)
        lease.slot.enqueue(Request(render, source, to_host, follow is not None), follow)  # type: ignore[arg-type]
        self._heed(lease.slot)
        self._in_flight.append(lease.slot)
        if stream is not None:
            lease.slot.join(foreign_stream(stream, self._device))
        return CudaResult(
            frame, self.card, lease, self.style, computed=names, to_host=to_host,
            render=lambda outputs, style: frames.render(self, outputs, style),
        )  # fmt: skip

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

    def _names(self, outputs: Iterable[str]) -> tuple[str, ...]:
        names = set(outputs)
        for name in names:
            if name not in OUTPUTS:
                raise unknown_name_error("output", name, OUTPUTS)
        if "overlay" in names and self.style.legend and self.style.effect.name != "heat":
            names.add("class_pixels")
        return tuple(sorted(names))

    def _take(self, slot: Slot, frame: DeviceFrame, producer: Any) -> None:
        """Copy a frame that lies on the GPU, after the stream that makes it."""
        # PyTorch and PyCUDA do not say where an array is written: as a rule, on the legacy default
        # stream, for which ours do not wait by themselves.
        handle = LEGACY_DEFAULT if producer is None else producer
        slot.stream.wait(foreign_stream(handle, self._device))
        slot.begin()
        slot.take(frame)

    def _stage(self, slot: Slot, planes: Sequence[NDArray[np.uint8]], stream: Any) -> str:
        """Bring a frame from the CPU: page-locked memory is read where it is."""
        if stream is not None:
            slot.stream.wait(foreign_stream(stream, self._device))
        if self._is_pinned(planes):
            slot.begin()
            slot.upload(planes)
            return "device"
        slot.stage(planes)
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
        self, size: Size, pixel_format: PixelFormat, color: Color | None
    ) -> tuple[Lease, _Frames]:
        key = size, pixel_format, color
        if key not in self._plans:
            plan = FramePlan(
                self.card, size, tensor=self._tensor, outputs=self._outputs, head=self._head,
                pixel_format=pixel_format, color=color, effect=self.style.effect,
                smooth=self._smooth, cleaning=self.cleaning,
            )  # fmt: skip
            self._plans[key] = _Frames(plan, self._new_pool(plan))
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)[1].pool.close()
        self._plans.move_to_end(key)
        frames = self._plans[key]
        lease = frames.pool.take()
        if lease.slot.was_lent:
            # A tensor may be dropped while a kernel still reads it. Its stream is not known, but
            # as a rule it is the legacy default one; others are named with ``stream=``.
            lease.slot.stream.wait(foreign_stream(LEGACY_DEFAULT, self._device))
            lease.slot.was_lent = False
        return lease, frames

    def _new_pool(self, plan: FramePlan) -> SlotPool:
        def make(lane: Lane, keep: bool) -> Slot:
            return Slot(
                self._device, plan, lane.network, stream=lane.stream,
                graphs=self._graphs and keep, timed=self._timed,
            )  # fmt: skip

        return SlotPool(self._lanes, make)

    def stream(
        self, frames: Iterable[Any], *, outputs: Iterable[str] = (), to_host: bool = True
    ) -> Iterator[CudaResult]:
        """Segment many images, in order, as many in flight as there are slots."""
        wanted = tuple(outputs)
        ahead: deque[CudaResult] = deque()
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
        while self._in_flight:
            self._in_flight.popleft().wait()
        if self._smoother is not None:
            self._smoother.clear()
        for frames in self._plans.values():
            frames.pool.close()
        self._plans.clear()
        for lane in self._lanes[1:]:
            lane.network.close()  # type: ignore[attr-defined]
        self.backend.close()

    def __enter__(self) -> CudaSegmenter:
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


@dataclass
class _Frames:
    """Slots and colours for one frame size and format."""

    plan: FramePlan
    pool: SlotPool
    blends: dict[OverlayStyle, DeviceArray] = field(default_factory=dict)
    looks: dict[OverlayStyle, tuple[Look | None, Any]] = field(default_factory=dict)
    """Prepared effects by style, with the memory that they lie in."""

    def render(
        self, segmenter: CudaSegmenter, outputs: tuple[str, ...], style: OverlayStyle
    ) -> Render:
        """What the tail and the effects are told for outputs in a style.

        Raises:
            UsageError: The style names a class that the card lacks, or an effect that the model
                or frames of this format cannot have.
            SourceError: The effect's background cannot be read.
        """
        if "overlay" not in outputs:
            return Render(outputs)
        look = self.look(segmenter, style)
        tints = self.tints(segmenter, style) if look is None else 0
        return Render(outputs, tints, look=look, effect=style.effect)

    def look(self, segmenter: CudaSegmenter, style: OverlayStyle) -> Look | None:
        """A style's effect on the device; None for what the tail paints."""
        if style not in self.looks:
            style.check(segmenter.card)
            tables = self.plan.tables(style.effect, style.opacity, style.classes)
            made = (None, None) if tables is None else _uploaded_look(segmenter._device, tables)
            # Results ask in other threads, too: the first stays, its addresses are in use.
            self.looks.setdefault(style, made)
        return self.looks[style][0]

    def tints(self, segmenter: CudaSegmenter, style: OverlayStyle) -> int:
        """Device address of a style's blend table.

        Raises:
            UsageError: The style names a class that the card lacks.
        """
        if style not in self.blends:
            card = segmenter.card
            style.check(card)
            named = style.classes
            chosen = None if named is None else tuple(card.classes.index(name) for name in named)
            is_mask = style.effect.name == "mask"
            table = self.plan.blend(style.opacity, chosen, is_mask=is_mask).table
            # Results ask in other threads, too: the first table stays, its address is in use.
            self.blends.setdefault(style, segmenter._device.uploaded(table))
        return self.blends[style].pointer


def _uploaded_look(device: Device, tables: Tables) -> tuple[Look, Any]:
    parts = (tables.flags, tables.colors, tables.tints, tables.behind)
    kept = tuple(device.uploaded(part) for part in parts)
    flags, colors, tints, behind = kept
    pitch = 0 if behind.rows == 1 else behind.row_bytes
    look = Look(
        tables.effect, tables.is_about_some, tables.weight, flags.pointer, colors.pointer,
        tints.pointer, Plane(behind.pointer, pitch),
    )  # fmt: skip
    return look, kept


def _host_planes(
    image: Any, pixel_format: PixelFormat
) -> tuple[tuple[NDArray[np.uint8], ...], PixelFormat]:
    """The planes of a frame on the CPU."""
    if isinstance(image, Nv12Frame):
        luma, chroma = np.asarray(image.luma), np.asarray(image.chroma)
        half = (luma.shape[0] // 2, luma.shape[1]) if luma.ndim == 2 else None
        if half is None or chroma.size != half[0] * half[1] or luma.dtype != np.uint8:
            raise UsageError(
                "NV12 chroma does not fit its luma",
                facts={"luma": str(luma.shape), "chroma": str(chroma.shape)},
            )
        return (luma, chroma.reshape(half)), "nv12"
    if pixel_format in ("bgr", "rgb"):
        return (checked_image(image),), pixel_format
    if pixel_format not in CHANNELS_OF:
        raise unknown_name_error("pixel format", pixel_format, tuple(CHANNELS_OF))
    array, channels = np.asarray(image), CHANNELS_OF[pixel_format][0]
    wanted = "H x W" if channels == 1 else f"H x W x {channels}"
    if (
        array.dtype != np.uint8
        or 0 in array.shape
        or array.shape[2:] != (channels,)[channels == 1 :]
    ):
        raise UsageError(
            f"a {pixel_format} frame must be {wanted} uint8",
            facts={"found": f"{'x'.join(map(str, array.shape))} {array.dtype}"},
        )
    return (array,), pixel_format


def _color(image: Any) -> Color | None:
    return image.color if isinstance(image, Nv12Frame) else None
