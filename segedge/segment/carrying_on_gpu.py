"""DeviceCarrying: frames of a video on a GPU, whose network sees some of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.cpu.agreement import agreement
from segedge.cuda.pool import Lease
from segedge.cuda.slot import CarriedFrom
from segedge.cuda.slot import Source as FrameSource
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.motion.agreement import Agreement
from segedge.options.frame import FrameOptions
from segedge.reference import motion as reference
from segedge.segment.drawing import checked_outputs, maps_of
from segedge.segment.drawing_on_gpu import DeviceDrawing, DeviceRenderer
from segedge.segment.moving import Source
from segedge.segment.result import Result


class DeviceSegmenter(Protocol):
    """What carrying needs of `segedge.segment.on_gpu.CudaSegmenter`."""

    card: ModelCard
    options: FrameOptions

    def take(self, frame: Frame, *, is_carried: bool) -> tuple[Lease, DeviceRenderer, FrameSource]:
        """A slot with the frame in it."""

    def look(self, lease: Lease, renderer: DeviceRenderer, source: FrameSource) -> None:
        """Enqueue the network for it."""


@dataclass(frozen=True)
class _Under:
    """A frame whose logits are under way on the GPU, in the slot of its lease."""

    lease: Lease
    renderer: DeviceRenderer


class DeviceCarrying:
    """Key frames stay in their slots; the others' logits are read there, on the GPU.

    Motion is found on the CPU, and its field copied with the frame.
    """

    def __init__(self, segmenter: DeviceSegmenter) -> None:
        """Begin."""
        self._segmenter = segmenter
        motion = segmenter.options.motion
        if motion is not None and motion.fuse:
            raise UsageError(
                "key frames are not fused on a GPU",
                fix="leave --fuse out, or take a host backend: openvino, onnxruntime",
            )

    def beside(self) -> list[DeviceCarrying]:
        """None: the GPU takes its frames in turn, and nobody waits for them here."""
        return []

    def end(self) -> None:
        """Nothing: none came from `beside`."""

    def look(self, frame: Frame) -> _Under:
        """The frame through the network."""
        lease, renderer, source = self._segmenter.take(frame, is_carried=False)
        self._segmenter.look(lease, renderer, source)
        return _Under(lease, renderer)

    def keep(self, frame: Frame, logits: _Under) -> _Under:
        """They stay where they are, as long as somebody holds the slot."""
        return logits

    def carry(self, frame: Frame, sources: Sequence[Source]) -> _Under:
        """The logits of a frame from one key or two."""
        lease, renderer, source = self._segmenter.take(frame, is_carried=True)
        keys = [CarriedFrom(s.logits.lease.slot, s.field, s.frames) for s in sources]
        lease.kept = lease.kept, sources  # their slots are read until this frame is done
        lease.slot.carry(source, keys)
        return _Under(lease, renderer)

    def agree(self, frame: Frame, source: Source, logits: _Under) -> Agreement:
        """How far the network's logits are what carrying would have said; worked out on the CPU."""
        card, plan = self._segmenter.card, logits.renderer.plan
        before, now = (self._on_host(under) for under in (source.logits, logits))
        key = reference.Key(before, source.field, source.frames)
        carried = reference.carry([key], card, plan.geometry, finer=1)
        is_nhwc = card.logits_layout == "nhwc"
        planes = [array[0].transpose(2, 0, 1) if is_nhwc else array[0] for array in (carried, now)]
        return agreement(planes[0], planes[1])

    def fuse(self, frame: Frame, source: Source, logits: _Under) -> _Under:
        """Refused when it began."""
        return logits

    def show(self, frame: Frame, logits: _Under, outputs: Iterable[str]) -> Result:
        """The result of a frame by its logits; it waits for the GPU when it is looked at."""
        style = self._segmenter.options.style
        names = maps_of(checked_outputs(outputs, style))
        lease, renderer = logits.lease, logits.renderer
        render = renderer.render(names, style)
        lease.kept = lease.kept, renderer
        lease.slot.finish(render, to_host=True)
        drawing = DeviceDrawing(frame, lease, renderer, computed=names, to_host=True)
        return Result(frame, self._segmenter.card, drawing, style)

    @staticmethod
    def _on_host(under: _Under) -> NDArray[Any]:
        slot = under.lease.slot
        return np.asarray(slot.download(slot.logits[slot.plan.head]), np.float32)
