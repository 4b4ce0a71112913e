"""CudaResult: what a frame segmented on the GPU can tell, on the CPU and on the GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cuda.plan import Render
from segedge.cuda.pool import Lease
from segedge.cuda.runtime.array import DeviceArray
from segedge.cuda.slot import Slot
from segedge.cuda.tail import Region
from segedge.errors import UsageError, unknown_name_error
from segedge.frames.frame import Frame
from segedge.frames.timing import StageTimes
from segedge.options.style import OverlayStyle
from segedge.segment.result import OUTPUTS, Result


class CudaResult(Result):
    """Labels, overlay and numbers of one frame; waits for the GPU when first looked at.

    Its arrays lie in the memory of its slot, which is not used again while the result or one of
    them lives. Any thread may look.
    """

    def __init__(
        self,
        frame: Frame,
        card: ModelCard,
        lease: Lease,
        style: OverlayStyle,
        *,
        computed: Iterable[str],
        to_host: bool,
        render: Callable[[tuple[str, ...], OverlayStyle], Render],
    ) -> None:
        """Made by a segmenter; see `segedge.segment.on_gpu.CudaSegmenter.__call__`."""
        self.frame = frame
        self.card = card
        self._lease = lease
        self._style = style
        self._computed = tuple(computed)
        self._to_host = to_host
        self._render_of = render
        """From outputs and a style to what the GPU is told."""
        self._made: dict[str, NDArray[Any]] = {}
        self._found: dict[Any, Any] = {}
        self._lock = threading.RLock()
        self._is_done = False

    @property
    def _slot(self) -> Slot:
        return self._lease.slot

    def wait(self) -> None:
        """Block until the GPU has done the frame.

        Raises:
            DeviceError: It failed.
        """
        with self._lock:
            if self._is_done:
                return
            self._slot.wait()
            for stage, milliseconds in self._slot.stages_ms().items():
                self.frame.times.add(stage, milliseconds)
            self._is_done = True
            self._lease.kept = None
            if self._to_host:
                self._adopt()

    def _adopt(self) -> None:
        """The outputs that were copied to the CPU, where they lie."""
        for name in self._computed:
            planes = [host.array(self._lease) for host in self._slot.on_host(name)]
            self._made[name] = _joined(planes)
        if self._style.legend and "overlay" in self._made:
            self._add_legend(self._made["overlay"], self._style)

    def gpu_spans_ms(self, since: Any) -> list[tuple[str, float, float]]:
        """When the GPU worked on it: stage, begin and end after an earlier CUDA event.

        Args:
            since: A ``cuda.core.Event`` that can be timed and has happened.
        """
        self.wait()
        return self._slot.spans_ms(since)

    @property
    def lane(self) -> int:
        """A number that no other result has while this one is in flight."""
        return id(self._slot)

    @property
    def times(self) -> StageTimes:
        """What each stage took on the GPU."""
        self.wait()
        return self.frame.times

    @property
    def logits(self) -> NDArray[Any]:
        """The network's raw output, at its own (low) resolution, copied from the GPU."""
        self.wait()
        with self._lock:
            if "logits" not in self._made:
                self._made["logits"] = self._slot.download(self._slot.logits[self._slot.plan.head])
            return self._made["logits"]

    @property
    def margin(self) -> NDArray[np.float32]:
        """H x W float32: how far the best logit is above the second best."""
        self.wait()
        with self._lock:
            if "margin" not in self._made:
                render = Render(("confidence",), confidence_kind="margin")
                self._made["margin"] = self._slot.extra(render)["confidence"][0]
            return self._made["margin"]

    def overlay(self, style: OverlayStyle | None = None) -> NDArray[np.uint8]:
        """The frame with its classes coloured, or what else the style's effect makes of it.

        Args:
            style: Another look than the segmenter's; such an overlay is not kept.

        Returns:
            H x W x 3 uint8, in the frame's channel order; for NV12 frames H * 3/2 x W. For the
            effect ``cutout`` H x W x 4, for ``side-by-side`` H x 2W x 3.

        Raises:
            UsageError: The style names a class that the card lacks, or the frames have a format
                that cannot have its effect.
            SourceError: The effect's background cannot be read.
        """
        if style is None or style == self._style:
            return self._get("overlay")
        self.wait()
        with self._lock:
            render = self._render_of(("overlay",), style)
            return self._styled(_joined(self._slot.extra(render)["overlay"]), style)

    def compute(self, outputs: Iterable[str]) -> None:
        """Compute several outputs in one pass and copy them to the CPU.

        Raises:
            UsageError: A name that is none of `segedge.segment.result.OUTPUTS`.
            DeviceError: The GPU failed.
        """
        names = _checked(outputs)
        self.wait()
        with self._lock:
            wanted = tuple(name for name in names if name not in self._made)
            if not wanted:
                return
            render = self._render_of(wanted, self._style)
            for name, planes in self._slot.extra(render).items():
                self._made[name] = _joined(planes)
            if "overlay" in wanted:
                self._styled(self._made["overlay"], self._style)

    def _styled(self, overlay: NDArray[np.uint8], style: OverlayStyle) -> NDArray[np.uint8]:
        if style.legend:
            self._add_legend(overlay, style)
        return overlay

    def _add_legend(self, overlay: NDArray[np.uint8], style: OverlayStyle) -> None:
        if self._slot.plan.pixel_format == "nv12":
            raise UsageError("no legend on NV12 frames", fix="leave --legend out")
        with self.frame.times.measure("legend"):
            counts = self._get("class_pixels") if style.effect.name != "heat" else None
            known = {} if counts is None else {"class_pixels": counts}
            self._draw_legend({"overlay": overlay, **known}, style)

    def _get(self, name: str) -> NDArray[Any]:
        self.wait()
        return super()._get(name)

    def on_device(self, name: str) -> tuple[DeviceArray, ...]:
        """An output's planes in GPU memory: one array, for an NV12 overlay luma and chroma.

        PyTorch, CuPy, Numba and others take them without a copy, and nothing is waited for here.
        DLPack (``torch.from_dlpack``) and libraries that heed the stream of the CUDA array
        interface wait for the frame on their own stream; for others, such as
        ``torch.as_tensor``, give ``stream=`` when the frame is segmented, or call `wait`. The
        memory is theirs as long as one of the arrays lives.

        Args:
            name: ``labels``, ``overlay``, ``confidence``, ``class_pixels`` or ``logits``.

        Raises:
            UsageError: It is none of them, or was not asked for when the frame was segmented.
        """
        slot, handle = self._slot, int(self._slot.stream.handle)
        slot.was_lent = True
        if name == "logits":
            return (slot.logits[slot.plan.head].leased(self._lease, handle),)
        if name not in self._computed:
            _checked((name,))
            raise UsageError(
                f"{name} is not on the GPU: it was not asked for",
                facts={"asked for": ", ".join(self._computed) or "nothing"},
                fix=f"segmenter(image, outputs=({name!r},), to_host=False)",
            )
        return tuple(array.leased(self._lease, handle) for array in slot.on_device(name))

    def labels_of(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Labels of a rectangle of the frame, and nothing else computed.

        Raises:
            UsageError: It leaves the frame.
        """
        region = Region(top, left, Size(height, width))
        self.wait()
        with self._lock:
            return self._slot.extra(Render(("labels",)), region)["labels"][0]


def _joined(planes: Any) -> NDArray[Any]:
    """The planes of a picture as one array; a single one is not copied."""
    arrays = list(planes)
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _checked(outputs: Iterable[str]) -> tuple[str, ...]:
    names = tuple(sorted(set(outputs)))
    for name in names:
        if name not in OUTPUTS:
            raise unknown_name_error("output", name, OUTPUTS)
    return names
