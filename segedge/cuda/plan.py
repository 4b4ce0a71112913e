"""What is done with the frames of one size and pixel format: index maps, shapes, colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from segedge.card import ModelCard
from segedge.cuda.array import DeviceArray
from segedge.cuda.overlay import Blend
from segedge.cuda.preprocess import CHANNELS_OF, Color, PixelFormat, Preprocess
from segedge.cuda.program import Launcher, Plane
from segedge.cuda.tail import ConfidenceKind, Picture, Region, Tail
from segedge.errors import UsageError
from segedge.geometry import Geometry, Size

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
    ) -> None:
        """Work out index maps.

        Args:
            card: What the network wants and gives.
            frame: Size of the frames.
            tensor: The network's input.
            outputs: The network's outputs.
            head: Index of the output that holds the logits.
            pixel_format: Layout of the frames.
            color: How NV12 stands for colours.

        Raises:
            UsageError: Sizes or types that the kernels do not take.
        """
        _check_size(frame, pixel_format)
        self.card = card
        self.frame = frame
        self.pixel_format: PixelFormat = pixel_format
        self.color = color or Color()
        self.outputs = tuple(outputs)
        self.head = head
        self.tensor_shape, self.tensor_dtype = tensor
        first = 2 if card.input_layout == "nchw" else 1
        network = Size(tensor.shape[first], tensor.shape[first + 1])
        self.geometry = Geometry.fit(frame, network, card.fit)
        self.preprocess = Preprocess(
            card, self.geometry, pixel_format=pixel_format, dtype=tensor.dtype, color=self.color
        )
        logits = self.outputs[head]
        self.tail = Tail(card, self.geometry, card.grid_size(logits.shape), dtype=logits.dtype)

    @property
    def frame_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the frame's planes, uint8."""
        height, width = self.frame.height, self.frame.width
        if self.pixel_format == "nv12":
            return (height, width), (height // 2, width)
        channels = CHANNELS_OF[self.pixel_format][0]
        return ((height, width) if channels == 1 else (height, width, channels),)

    def shapes_of(self, name: str, size: Size | None = None) -> tuple[Tensor, ...]:
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
        return (Tensor((height, width, 3), kind),)

    def blend(self, opacity: float, classes: Sequence[int] | None) -> Blend:
        """The blend table for overlays on frames of this format.

        Raises:
            UsageError: Frames of this format are not painted on.
        """
        palette = self.card.palette_rgb
        if self.pixel_format not in _PAINTED:
            raise UsageError(
                f"no overlay on {self.pixel_format} frames",
                facts={"known": ", ".join(_PAINTED)},
                fix="ask for labels, or convert the frames",
            )
        if self.pixel_format == "nv12":
            return Blend.nv12(
                palette, opacity, classes=classes,
                matrix=self.color.matrix, full_range=self.color.full_range,
            )  # fmt: skip
        if self.pixel_format == "rgb":
            palette = tuple((blue, green, red) for red, green, blue in palette)
        return Blend.of(palette, opacity, classes=classes)

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
    ) -> None:
        """Launch the tail for what is to be rendered.

        Args:
            launcher: Where to run.
            render: What is wanted.
            logits: Device address of the network's output.
            scratch: Device address of the tail's scratch memory.
            frame: The frame on the device.
            targets: Where each output goes.
            region: The part of the frame that the outputs cover.
        """
        labels, confidence = _plane(targets, "labels"), _plane(targets, "confidence")
        painted = targets.get("overlay")
        overlay = None
        if painted:
            chroma = painted[1].plane if len(painted) > 1 else None
            overlay = Picture(painted[0].plane, chroma)
        counts = targets.get("class_pixels")
        self.tail.launch(
            launcher, logits, scratch,
            labels=labels,
            overlay=overlay,
            frame=frame if overlay else None,
            blend=render.tints if overlay else None,
            confidence=confidence,
            confidence_kind=render.confidence_kind,
            class_pixels=counts[0].pointer if counts else None,
            region=region,
        )  # fmt: skip


def _plane(targets: Mapping[str, Sequence[DeviceArray]], name: str) -> Plane | None:
    return targets[name][0].plane if name in targets else None


def _check_size(frame: Size, pixel_format: PixelFormat) -> None:
    if pixel_format == "nv12" and (frame.height % 2 or frame.width % 2):
        raise UsageError("NV12 frames have even sizes", facts={"found": str(frame)})
    # The index maps are exact, and a grid of blocks is allowed, up to 65535 each way.
    if max(frame.height, frame.width) > 65535 or frame.height * frame.width > 1 << 28:
        raise UsageError("a frame this large is not supported", facts={"found": str(frame)})
