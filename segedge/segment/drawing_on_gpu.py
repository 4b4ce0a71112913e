"""DeviceDrawing: a frame's outputs drawn on a GPU, in the memory of the slot that it is in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Region, Size
from segedge.cuda.effects import DeviceLook
from segedge.cuda.plan import FramePlan, Render
from segedge.cuda.pool import Lease
from segedge.cuda.runtime.array import DeviceArray
from segedge.cuda.runtime.device import Device
from segedge.cuda.slot import Slot
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.options.style import OverlayStyle
from segedge.reference.look import Look
from segedge.segment.drawing import MARGIN, MEAN, Arrays, checked_outputs, maps_of, mean_of


class DeviceRenderer:
    """Colours and effects on the device for frames of one size and format, made when asked for.

    Results ask in other threads, too: what is made first stays, its addresses are in use.
    """

    def __init__(self, device: Device, plan: FramePlan) -> None:
        """Begin without any."""
        self.plan = plan
        self._device = device
        self._blends: dict[OverlayStyle, DeviceArray] = {}
        self._looks: dict[OverlayStyle, tuple[DeviceLook | None, Any]] = {}
        """Prepared effects, with the memory that they lie in."""

    def render(self, outputs: tuple[str, ...], style: OverlayStyle) -> Render:
        """What the tail and the effects are told for outputs in a style.

        Raises UsageError where the model or frames of this format cannot have it, and SourceError
        where its background cannot be read.
        """
        if "overlay" not in outputs:
            return Render(outputs)
        look = self._look(style)
        tints = self._tints(style) if look is None else 0
        return Render(outputs, tints, look=look, effect=style.effect)

    def _look(self, style: OverlayStyle) -> DeviceLook | None:
        """A style's effect; None for what the tail paints."""
        if style not in self._looks:
            style.check(self.plan.card)
            look = self.plan.look(style.effect, style.opacity, style.classes)
            made = (None, None) if look is None else _uploaded_look(self._device, look)
            self._looks.setdefault(style, made)
        return self._looks[style][0]

    def _tints(self, style: OverlayStyle) -> int:
        """Device address of a style's blend table."""
        if style not in self._blends:
            chosen = style.labels(self.plan.card)
            is_mask = style.effect.traits.hides_frame
            table = self.plan.blend(style.opacity, chosen, is_mask=is_mask).table
            self._blends.setdefault(style, self._device.uploaded(table))
        return self._blends[style].pointer


def _uploaded_look(device: Device, look: Look) -> tuple[DeviceLook, Any]:
    kept: list[DeviceArray] = []

    def place(table: NDArray[Any]) -> int:
        kept.append(device.uploaded(table))
        return kept[-1].pointer

    return DeviceLook.of(look, place), kept


class DeviceDrawing:
    """Draws one frame that is, or was, under way on the GPU.

    Its arrays lie in the memory of its slot, which is not used again while one of them lives.
    """

    def __init__(
        self,
        frame: Frame,
        lease: Lease,
        renderer: DeviceRenderer,
        *,
        computed: Iterable[str],
        to_host: bool,
    ) -> None:
        """``computed`` are the outputs of the frame's own launch, ``to_host`` if copied, too."""
        self.renderer = renderer
        self._frame, self._lease = frame, lease
        self._computed, self._to_host = tuple(computed), to_host

    @property
    def slot(self) -> Slot:
        """Where the frame is."""
        return self._lease.slot

    def wait(self) -> Arrays:
        """Block until the GPU has done the frame; DeviceError where it failed."""
        self.slot.wait()
        for stage, milliseconds in self.slot.stages_ms().items():
            self._frame.times.add(stage, milliseconds)
        self._lease.kept = None
        copied = self._computed if self._to_host else ()
        return {
            name: _joined([host.array(self._lease) for host in self.slot.on_host(name)])
            for name in copied
        }

    def logits(self) -> NDArray[Any]:
        """The network's raw output, copied from the GPU."""
        return self.slot.download(self.slot.logits[self.slot.plan.head])

    def draw(
        self, outputs: tuple[str, ...], style: OverlayStyle, known: Mapping[str, NDArray[Any]]
    ) -> Arrays:
        """Outputs in one pass, copied to the CPU; see `Drawing.draw`."""
        if outputs == (MARGIN,):
            render = Render(("confidence",), confidence_kind=MARGIN)
            return {MARGIN: self.slot.extra(render)["confidence"][0]}
        made = self.slot.extra(self.renderer.render(maps_of(outputs), style))
        arrays = {name: _joined(planes) for name, planes in made.items()}
        return {**arrays, MEAN: mean_of(arrays["confidence"])} if MEAN in outputs else arrays

    def labels_of(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Labels of a rectangle, and nothing else computed."""
        region = Region(top, left, Size(height, width))
        return self.slot.extra(Render(("labels",)), region)["labels"][0]

    def on_device(self, name: str) -> tuple[DeviceArray, ...]:
        """An output's planes where they lie; see `Result.on_device`."""
        slot, handle = self.slot, int(self.slot.stream.handle)
        slot.was_lent = True
        if name == "logits":
            return (slot.logits[slot.plan.head].leased(self._lease, handle),)
        if name not in self._computed:
            checked_outputs(maps_of((name,)), OverlayStyle())
            raise UsageError(
                f"{name} is not on the GPU: it was not asked for",
                facts={"asked for": ", ".join(self._computed) or "nothing"},
                fix=f"segmenter(image, outputs=({name!r},), to_host=False)",
            )
        return tuple(array.leased(self._lease, handle) for array in slot.on_device(name))


def _joined(planes: Any) -> NDArray[Any]:
    """The planes of a picture as one array; a single one is not copied."""
    arrays = list(planes)
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
