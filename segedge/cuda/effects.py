"""Effects on the GPU: cutout, blurred or replaced background, outlines and heat.

The twin of `segedge.cpu.effects`. What the tail has to give (labels, confidence) it writes first;
then one to five launches make the picture, on the same stream and so in the same graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, Geometry, Size
from segedge.cuda.preprocess import fixed_point
from segedge.cuda.runtime.program import Argument, Kernel, Launcher, Plane
from segedge.options.effect import (
    DrawnBy,
    Effect,
    background_rows,
    blur_steps,
    chosen_classes,
    heat_table_rgb,
    outline_radius,
)

_BLOCK = (32, 8)


@dataclass(frozen=True)
class Tables:
    """An effect prepared for the kernels, for frames of one size; to be copied to the device."""

    effect: Effect
    is_about_some: bool
    """Whether the user named classes."""
    flags: NDArray[np.uint8]
    """(classes + 1): 1 for those that it is about."""
    colors: NDArray[np.uint8]
    """(classes + 1) x 3, in the frame's channel order."""
    tints: NDArray[np.uint16]
    """256 x 3 premultiplied colours of the heat."""
    weight: int
    """Share of the frame in a heat, 0..256."""
    behind: NDArray[np.uint8]
    """H x W x 3 background, or one row of it; one pixel without one."""

    @classmethod
    def of(
        cls,
        card: ModelCard,
        effect: Effect,
        size: Size,
        *,
        classes: tuple[str, ...] | None = None,
        opacity: float = 0.5,
        is_rgb: bool = False,
    ) -> Tables:
        """Prepare an effect.

        Args:
            card: Classes and colours.
            effect: What to show.
            size: Of the frames.
            classes: Names of the classes it is about; None: all, and for a foreground all but the
                background.
            opacity: Share of the colour in ``heat``.
            is_rgb: Whether the frames' channels are red, green, blue.

        Raises:
            UsageError: The model cannot have this effect.
            SourceError: The background cannot be read.
        """
        step = 1 if is_rgb else -1
        count = len(card.classes)
        chosen = chosen_classes(card, effect, classes).astype(np.uint8)
        colors = np.zeros((count + 1, 3), np.uint8)
        colors[:count] = np.asarray(card.palette_rgb, np.uint8).reshape(count, 3)[:, ::step]
        behind = np.zeros((1, 1, 3), np.uint8)
        if effect.background:
            behind = np.ascontiguousarray(background_rows(effect.background, size)[..., ::-step])
        share = round(256 * opacity)
        tints = share * heat_table_rgb()[:, ::step].astype(np.uint16) + np.uint16(128)
        return cls(
            effect, classes is not None, chosen, colors, np.ascontiguousarray(tints, np.uint16),
            256 - share, behind,
        )  # fmt: skip


@dataclass(frozen=True)
class Look:
    """`Tables` on the device."""

    effect: Effect
    is_about_some: bool
    """Whether the user named classes."""
    weight: int
    """Share of the frame in a heat, 0..256."""
    flags: int
    """Device address of `Tables.flags`."""
    colors: int
    """Device address of `Tables.colors`."""
    tints: int
    """Device address of `Tables.tints`."""
    behind: Plane
    """The background; a pitch of zero repeats one row."""


class Effects:
    """Draws effects from the network's output; the truth is `segedge.reference.effects`."""

    def __init__(
        self,
        card: ModelCard,
        geometry: Geometry,
        grid: Size,
        *,
        dtype: DTypeLike = "float32",
        label_dtype: DTypeLike = "uint8",
    ) -> None:
        """Work out index maps.

        Args:
            card: What the network's output means.
            geometry: How the frame lies in the network's input.
            grid: Height and width of the network's output.
            dtype: Of the output.
            label_dtype: Of the labels that the tail writes.
        """
        self._card = card
        self._frame = geometry.frame
        self._grid = grid
        self._gives_labels = card.head == "labels"
        self._label_bytes = np.dtype(label_dtype).itemsize
        self._defines: dict[str, Any] = {"from": int(self._gives_labels)}
        if self._gives_labels:
            self._defines["label_bytes"] = self._label_bytes
            self._files: tuple[str, ...] = ("common.cu", "effects_matte.cu")
        else:
            self._files = ("common.cu", "logits.cu", "effects_matte.cu")
            self._defines |= {
                "classes": len(card.classes),
                "sigmoid": int(card.activation == "sigmoid"),
                "half": int(np.dtype(dtype) == np.float16),
                "nhwc": int(card.logits_layout == "nhwc"),
            }
        maps = geometry.grid_from_frame(grid, align_corners=card.align_corners)
        self._maps = [*fixed_point(maps.y), *fixed_point(maps.x)]

    def spare(self, look: Look, scratch: int) -> dict[str, Plane]:
        """What the tail must write before `run`, and where where nobody asked for it.

        Args:
            look: What will be drawn.
            scratch: Device address of `scratch_bytes`.
        """
        parts, found = self._parts(look), {}
        for name, item in (("labels", self._label_bytes), ("confidence", 4)):
            if name in parts:
                found[name] = Plane(scratch + parts[name], _pitch(self._frame.width * item))
        if look.effect.is_entropy:  # its values lie there, and the tail does not make them
            found.pop("confidence", None)
        return found

    def scratch_bytes(self, look: Look) -> int:
        """Device memory that `run` needs."""
        return self._parts(look)["end"]

    def _parts(self, look: Look) -> dict[str, int]:
        """Byte offsets in the scratch memory."""
        traits, frame = look.effect.traits, self._frame
        sizes: dict[str, int] = {}
        points = self._grid.height * self._grid.width
        needs_labels: dict[DrawnBy, bool] = {
            "outline": True, "heat": look.is_about_some, "matte": self._gives_labels
        }  # fmt: skip
        if needs_labels.get(traits.drawn_by):
            sizes["labels"] = frame.height * _pitch(frame.width * self._label_bytes)
        elif traits.parts_foreground:
            sizes |= {"best": 8 * points, "winner": 4 * points}
        if traits.drawn_by == "heat":
            sizes["confidence"] = frame.height * _pitch(frame.width * 4)
        if traits.blurs:
            rows, columns = self._blocks(look)
            sizes |= {
                "alpha": frame.height * _pitch(frame.width),
                "sums": 16 * rows * columns,
                "blurred": 16 * rows * columns,
                "small": 4 * rows * columns,
            }
        parts, end = {}, 0
        for part, size in sizes.items():
            parts[part] = end
            end += -(-size // 256) * 256
        return {**parts, "end": max(end, 1)}

    def _blocks(self, look: Look) -> tuple[int, int]:
        step = blur_steps(self._sigma(look))
        return -(-self._frame.height // step), -(-self._frame.width // step)

    def _sigma(self, look: Look) -> float:
        return look.effect.blur * self._frame.height

    def run(
        self,
        launcher: Launcher,
        look: Look,
        *,
        logits: int,
        scratch: int,
        frame: Plane,
        out: Plane,
        labels: Plane | None = None,
        confidence: Plane | None = None,
    ) -> None:
        """Draw.

        Args:
            launcher: Where to run.
            look: What to draw; not what the tail paints.
            logits: Device address of the network's output.
            scratch: Device address of `scratch_bytes`, aligned to 256.
            frame: H x W x 3.
            out: Receives the picture, of `Effect.shape`.
            labels: The frame's labels, where `spare` names them.
            confidence: The frame's confidence, where `spare` names it.
        """
        parts = {name: scratch + offset for name, offset in self._parts(look).items()}
        draws: dict[DrawnBy, Callable[[], None]] = {
            "matte": lambda: self._matted(launcher, look, logits, parts, frame, out, labels),
            "outline": lambda: self._outline(launcher, look, frame, out, labels),
            "heat": lambda: self._heat(
                launcher, look, logits, parts, frame, out, labels, confidence
            ),
        }
        draws[look.effect.traits.drawn_by]()

    def _outline(
        self, launcher: Launcher, look: Look, frame: Plane, out: Plane, labels: Plane | None
    ) -> None:
        assert labels is not None
        radius = np.int32(outline_radius(self._frame.height))
        self._paint(
            launcher, "draw_outline", self._frame,
            [*_plane(labels), look.flags, look.colors, self._class_count, radius,
             *self._size, *_plane(frame), *_plane(out)],
        )  # fmt: skip

    def _heat(
        self,
        launcher: Launcher,
        look: Look,
        logits: int,
        parts: dict[str, int],
        frame: Plane,
        out: Plane,
        labels: Plane | None,
        confidence: Plane | None,
    ) -> None:
        is_confidence = not look.effect.is_entropy
        values = confidence
        if not is_confidence or values is None:
            values = Plane(parts["confidence"], _pitch(self._frame.width * 4))
            count = len(self._card.classes)
            scale = np.float32(1.0 / math.log(count) if count > 1 else 0.0)
            self._matte(
                launcher, "entropy_pixels", 0,
                [logits, *self._grid_size, *self._maps, *self._size, scale, *_plane(values)],
            )  # fmt: skip
        some = labels if look.is_about_some else None
        self._paint(
            launcher, "paint_heat", self._frame,
            [*_plane(values), np.int32(is_confidence), *_plane(some), look.flags,
             self._class_count, look.tints, np.int32(look.weight), *self._size, *_plane(frame),
             *_plane(out)],
        )  # fmt: skip

    def _matted(
        self,
        launcher: Launcher,
        look: Look,
        logits: int,
        parts: dict[str, int],
        frame: Plane,
        out: Plane,
        labels: Plane | None,
    ) -> None:
        traits, target = look.effect.traits, out
        if traits.blurs:
            target = Plane(parts["alpha"], _pitch(self._frame.width))
        pictures: list[Argument] = [
            *self._size,
            *_plane(frame),
            *_plane(look.behind),
            *_plane(target),
        ]
        kind = 0 if traits.blurs else 1 if traits.alpha else 2
        if self._gives_labels:
            start: list[Argument] = [*_plane(labels), look.flags, self._class_count]
            self._matte(launcher, "matte_labels", kind, [*start, *pictures])
        else:
            sets = (parts["best"], parts["winner"])
            points = self._grid.height * self._grid.width
            kernel = Kernel.of("matte_points", self._files, target=kind, **self._defines)
            launcher(
                kernel, (-(-points // 256), 1), (256, 1),
                [logits, np.int32(points), look.flags, *sets],
            )  # fmt: skip
            scale = np.float32(0.5 / look.effect.edge_logits)
            start = [logits, look.flags, *sets, *self._grid_size, *self._maps, scale]
            self._matte(launcher, "matte_pixels", kind, [*start, *pictures])
        if traits.blurs:
            self._blur(launcher, look, parts, frame, target, out)

    def _blur(
        self,
        launcher: Launcher,
        look: Look,
        parts: dict[str, int],
        frame: Plane,
        alpha: Plane,
        out: Plane,
    ) -> None:
        sigma = self._sigma(look)
        step = blur_steps(sigma)
        blocks = Size(*self._blocks(look))
        rows, columns = np.int32(blocks.height), np.int32(blocks.width)
        radius = np.int32(math.ceil(3.0 * sigma / step))
        fall = np.float32(math.log2(math.e) / (2.0 * (sigma / step) ** 2))
        source: list[Argument] = [*_plane(frame), *_plane(alpha), *self._size]
        self._paint(
            launcher, "sum_blocks", blocks,
            [*source, np.int32(step), rows, columns, parts["sums"]],
        )  # fmt: skip
        for down, origin in ((0, "sums"), (1, "blurred")):
            self._paint(
                launcher, "blur_blocks", blocks,
                [parts[origin], rows, columns, radius, fall, np.int32(down), parts["blurred"],
                 parts["small"]],
            )  # fmt: skip
        scale, offset = fixed_point(AxisMap(1.0 / step, 0.5 / step - 0.5))
        self._paint(
            launcher, "compose_blurred", self._frame,
            [*source, parts["small"], rows, columns, scale, offset, *_plane(out)],
        )  # fmt: skip

    def copy_frame(self, launcher: Launcher, frame: Plane, out: Plane) -> None:
        """The frame as it is, for the left half of ``side-by-side``."""
        size = Size(self._frame.height, 3 * self._frame.width)
        rows = [np.int32(size.height), np.int32(size.width)]
        self._paint(launcher, "copy_rows", size, [*_plane(frame), *rows, *_plane(out)])

    @property
    def _class_count(self) -> Any:
        return np.int32(len(self._card.classes))

    @property
    def _size(self) -> tuple[np.int32, np.int32]:
        return np.int32(self._frame.height), np.int32(self._frame.width)

    @property
    def _grid_size(self) -> tuple[np.int32, np.int32]:
        return np.int32(self._grid.height), np.int32(self._grid.width)

    def _matte(self, launcher: Launcher, name: str, target: int, arguments: list[Argument]) -> None:
        kernel = Kernel.of(name, self._files, target=target, **self._defines)
        launcher(kernel, _blocks_of(self._frame), _BLOCK, arguments)

    def _paint(self, launcher: Launcher, name: str, size: Size, arguments: list[Argument]) -> None:
        files = ("common.cu", "effects_paint.cu")
        kernel = Kernel.of(name, files, label_bytes=self._label_bytes)
        launcher(kernel, _blocks_of(size), _BLOCK, arguments)


def _plane(plane: Plane | None) -> list[Argument]:
    return [plane.pointer, np.int64(plane.pitch)] if plane else [0, np.int64(0)]


def _pitch(row_bytes: int) -> int:
    return -(-row_bytes // 16) * 16


def _blocks_of(size: Size) -> tuple[int, int]:
    return -(-size.width // _BLOCK[0]), -(-size.height // _BLOCK[1])
