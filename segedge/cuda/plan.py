"""What is done with the frames of one size and pixel format: index maps, shapes, colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Region, Size
from segedge.card.labels import Rgb
from segedge.cuda.effects import DeviceLook, Effects
from segedge.cuda.motion import Carrier
from segedge.cuda.overlay import Blend, planes_of_rgb
from segedge.cuda.preprocess import CHANNELS_OF, Color, PixelFormat, Preprocess
from segedge.cuda.regions import Clean
from segedge.cuda.runtime.array import DeviceArray
from segedge.cuda.runtime.program import Launcher, Plane
from segedge.cuda.smoothing import Smooth
from segedge.cuda.tail import Picture, Tail
from segedge.errors import UsageError
from segedge.options.cleaning import Cleaning
from segedge.options.effect import TRAITS, Effect
from segedge.reference.frame import ConfidenceKind
from segedge.reference.look import Look, Tints, masked

OutputName = Literal["labels", "overlay", "confidence", "class_pixels"]
_PAINTED: tuple[PixelFormat, ...] = ("bgr", "rgb", "nv12")
"""Formats that the tail can paint on."""


class Tensor(NamedTuple):
    """Shape and type of one of the network's tensors."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Render:
    """What the tail is to write."""

    outputs: tuple[str, ...]
    """Sorted names of outputs."""
    tints: int = 0
    """Device address of the blend table, for an overlay."""
    confidence_kind: ConfidenceKind = "probability"
    look: DeviceLook | None = None
    """What is drawn instead of a plain overlay."""
    effect: Effect | None = None
    """What the overlay shows; None: what the plan says."""


@dataclass(frozen=True)
class CleanMemory:
    """Where a slot's label maps are cleaned; device addresses."""

    maps: int
    """Of `FramePlan.clean_bytes`: the map before, the map after, scratch."""
    wanted: int
    """Of `Clean.wanted`."""


class DeviceNetwork(Protocol):
    """What a slot needs of a backend whose memory is ``cuda``."""

    def run(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None, *, stream: int = 0
    ) -> Sequence[Any]:
        """Enqueue the network; see `segedge.backends.base.Backend.run`."""

    def is_capturable(self, stream: int) -> bool:
        """Whether a CUDA graph may capture `run`, once it has run plainly."""


class FramePlan:
    """Everything that is worked out once for a frame size; shared by all its slots."""

    def __init__(
        self,
        card: ModelCard,
        frame: Size,
        *,
        tensor: Tensor,
        outputs: Sequence[Tensor],
        head: int,
        pixel_format: PixelFormat = "bgr",
        color: Color | None = None,
        effect: Effect | None = None,
        smooth: Smooth | None = None,
        cleaning: Cleaning | None = None,
        is_carried: bool = False,
    ) -> None:
        """Work out index maps.

        ``tensor`` is the network's input, ``outputs[head]`` its logits; ``color`` says how NV12
        stands for colours, ``effect`` what the segmenter's own pictures show. Frames that are
        carried to have logits on a finer grid than the network's, and no network runs.

        Raises:
            UsageError: Sizes or types that the kernels do not take.
        """
        _check_size(frame, pixel_format)
        self.card = card
        self.frame = frame
        self.pixel_format: PixelFormat = pixel_format
        self.color = color or Color()
        self.effect = effect or Effect()
        self.outputs = tuple(outputs)
        self.head = head
        self.smooth = smooth
        self.tensor_shape, self.tensor_dtype = tensor
        self.geometry = card.place(frame, card.size_of_input(tensor.shape))
        self.preprocess = Preprocess(
            card, self.geometry, pixel_format=pixel_format, dtype=tensor.dtype, color=self.color
        )
        self.carrier: Carrier | None = None
        logits, plane = self.outputs[head], None
        if is_carried:
            grid = card.grid_size(logits.shape)
            self.carrier = Carrier(card, self.geometry, grid, dtype=logits.dtype)
            logits = Tensor(self.carrier.shape, np.dtype(np.float32))
            self.outputs, self.head, plane = (logits,), 0, self.carrier.plane
        grid = card.grid_size(logits.shape)
        self.tail = Tail(card, self.geometry, grid, dtype=logits.dtype, plane=plane)
        self.effects = Effects(
            card, self.geometry, grid, dtype=logits.dtype, label_dtype=self.tail.label_dtype,
            plane=plane,
        )  # fmt: skip
        self.clean = None if cleaning is None or cleaning.is_off else self._make_clean(cleaning)

    def _make_clean(self, cleaning: Cleaning) -> Clean:
        """What cleans labels, and a tail that takes them."""
        card, frame, kind = self.card, self.frame, self.tail.label_dtype
        given = ModelCard(
            card.classes, card.palette_rgb, frame.height, frame.width, stride=1, head="labels"
        )
        self._given = Tail(given, Geometry(frame, frame, 0, 0, frame), frame, dtype=kind)
        return Clean(cleaning, card.classes, frame, dtype=kind)

    @property
    def clean_bytes(self) -> int:
        """Device memory that the cleaning of a frame's labels needs."""
        return 0 if self.clean is None else 2 * self.clean.map_bytes + self.clean.scratch_bytes

    @property
    def frame_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the frame's planes, uint8."""
        height, width = self.frame.height, self.frame.width
        if self.pixel_format == "nv12":
            return (height, width), (height // 2, width)
        channels = CHANNELS_OF[self.pixel_format][0]
        return ((height, width) if channels == 1 else (height, width, channels),)

    def shapes_of(
        self, name: str, size: Size | None = None, effect: Effect | None = None
    ) -> tuple[Tensor, ...]:
        """Shapes and types of an output's planes, for the whole frame or a part of it."""
        height, width = (size or self.frame).height, (size or self.frame).width
        if name == "labels":
            return (Tensor((height, width), self.tail.label_dtype),)
        if name == "confidence":
            return (Tensor((height, width), np.dtype(np.float32)),)
        if name == "class_pixels":
            return (Tensor((len(self.card.classes),), np.dtype(np.int64)),)
        kind = np.dtype(np.uint8)
        if self.pixel_format == "nv12":
            return Tensor((height, width), kind), Tensor((height // 2, width), kind)
        return (Tensor((effect or self.effect).shape(height, width), kind),)

    def look(self, effect: Effect, opacity: float, classes: tuple[str, ...] | None) -> Look | None:
        """An effect prepared for frames of this format; None for what the tail paints.

        Raises:
            UsageError: Frames of this format cannot have it, or the model cannot.
            SourceError: The background cannot be read.
        """
        traits = effect.traits
        if self.pixel_format == "nv12" and not traits.suits_nv12:
            raise UsageError(
                f"no {effect.name} on NV12 frames",
                facts={"known": ", ".join(n for n, other in TRAITS.items() if other.suits_nv12)},
                fix="hand in BGR or RGB frames",
            )
        if traits.drawn_by == "tail":
            return None
        self._check_painted()
        return Look.of(
            self.card, effect, self.frame, classes=classes, opacity=opacity,
            is_rgb=self.pixel_format == "rgb",
        )  # fmt: skip

    def _check_painted(self) -> None:
        if self.pixel_format not in _PAINTED:
            raise UsageError(
                f"no overlay on {self.pixel_format} frames",
                facts={"known": ", ".join(_PAINTED)},
                fix="ask for labels, or convert the frames",
            )

    def blend(
        self, opacity: float, classes: Sequence[int] | None, *, is_mask: bool = False
    ) -> Blend:
        """The blend table for overlays (or masks) on frames of this format.

        Raises:
            UsageError: Frames of this format are not painted on.
        """
        self._check_painted()
        palette = self.card.palette_rgb
        if is_mask:
            return Blend.from_tints(Tints.solid(self._painted(masked(palette, classes))))
        return Blend.from_tints(Tints.of(self._painted(palette), opacity, classes))

    def _painted(self, palette: Sequence[Rgb]) -> NDArray[np.integer]:
        """Colours as they are painted on frames of this format."""
        if self.pixel_format == "nv12":
            color = self.color
            return planes_of_rgb(palette, matrix=color.matrix, full_range=color.full_range)
        return np.asarray(palette)[:, :: 1 if self.pixel_format == "rgb" else -1]

    def launch_tail(
        self,
        launcher: Launcher,
        render: Render,
        *,
        logits: int,
        scratch: int,
        frame: Picture,
        targets: Mapping[str, Sequence[DeviceArray]],
        region: Region | None = None,
        spare: int = 0,
        cleaning: CleanMemory | None = None,
    ) -> None:
        """Launch the tail, and what draws an effect, for what is to be rendered.

        ``logits``, ``scratch`` (the tail's) and ``spare`` (of `spare_bytes`, for an effect) are
        device addresses; outputs cover the region; ``cleaning`` is needed where the plan cleans.
        """
        labels, confidence = _plane(targets, "labels"), _plane(targets, "confidence")
        painted = targets.get("overlay")
        look = render.look if painted else None
        if look is not None:
            between = self.effects.spare(look, spare)
            labels = labels or between.get("labels")
            confidence = confidence or between.get("confidence")
        overlay = None
        if painted and (render.effect or self.effect).traits.beside_frame:
            self.effects.copy_frame(launcher, frame.plane, painted[0].plane)
            overlay = Picture(painted[0].plane.at(0, 3 * self.frame.width))
        elif painted and look is None:
            chroma = painted[1].plane if len(painted) > 1 else None
            overlay = Picture(painted[0].plane, chroma)
        counts = targets.get("class_pixels")
        tail, source = self.tail, logits
        if cleaning is not None and (labels or overlay or counts):
            if confidence:
                tail.run(
                    launcher, logits, scratch, confidence=confidence,
                    confidence_kind=render.confidence_kind, region=region,
                )  # fmt: skip
            tail, source = self._given, self._cleaned(launcher, logits, scratch, cleaning)
        if labels or confidence or overlay or counts:
            tail.run(
                launcher, source, scratch,
                labels=labels,
                overlay=overlay,
                frame=frame if overlay else None,
                blend=render.tints if overlay else None,
                confidence=None if tail is not self.tail else confidence,
                confidence_kind=render.confidence_kind,
                class_pixels=counts[0].pointer if counts else None,
                region=region,
            )  # fmt: skip
        if look is not None and painted:
            self.effects.run(
                launcher, look, logits, spare, frame=frame.plane,
                out=painted[0].plane, labels=labels, confidence=confidence,
            )  # fmt: skip

    def _cleaned(self, launcher: Launcher, logits: int, scratch: int, memory: CleanMemory) -> int:
        """Device address of the frame's cleaned labels, rows without padding."""
        assert self.clean is not None, "its memory is there"
        size, row = self.clean.map_bytes, self.frame.width * self.tail.label_dtype.itemsize
        before, after = memory.maps, memory.maps + size
        self.tail.run(launcher, logits, scratch, labels=Plane(before, row))
        self.clean.run(launcher, before, after, after + size, wanted=memory.wanted)
        return after

    def spare_bytes(self, render: Render) -> int:
        """Device memory beside the tail's that `launch_tail` needs."""
        return self.effects.scratch_bytes(render.look) if render.look else 0


def _plane(targets: Mapping[str, Sequence[DeviceArray]], name: str) -> Plane | None:
    return targets[name][0].plane if name in targets else None


def _check_size(frame: Size, pixel_format: PixelFormat) -> None:
    if pixel_format == "nv12" and (frame.height % 2 or frame.width % 2):
        raise UsageError("NV12 frames have even sizes", facts={"found": str(frame)})
    # The index maps are exact, and a grid of blocks is allowed, up to 65535 each way.
    if max(frame.height, frame.width) > 65535 or frame.height * frame.width > 1 << 28:
        raise UsageError("a frame this large is not supported", facts={"found": str(frame)})
