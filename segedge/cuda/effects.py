"""Effects on the GPU: cutout, blurred or replaced background, outlines and heat.

The twin of `segedge.cpu.effects`. What the tail has to give (labels, confidence) it writes first;
then one to five launches make the picture, on the same stream and so in the same graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, Geometry, PlaneMap, Size
from segedge.cuda.arguments import (
    blocks_of,
    fixed_point,
    logit_defines,
    maps_of,
    pieces,
    plane_of,
    size_of,
)
from segedge.cuda.runtime.program import Argument, Kernel, Launcher, Plane
from segedge.options.effect import DrawnBy, Effect, blur_steps, outline_radius
from segedge.reference.look import Look

_BLOCK = (32, 8)


@dataclass(frozen=True)
class DeviceLook:
    """A `Look` whose tables lie on the device; equal ones share a graph."""

    effect: Effect
    is_about_some: bool
    """Whether the user named classes."""
    weight: int
    """Share of the frame in a heat, 0..256."""
    flags: int
    """Device address of `Look.is_chosen`, a byte a class and one more."""
    colors: int
    """Device address of `Look.colors`."""
    tints: int
    """Device address of the 256 premultiplied colours of the heat."""
    behind: Plane
    """The background; a pitch of zero repeats one row."""

    @classmethod
    def of(cls, look: Look, place: Callable[[NDArray[Any]], int]) -> DeviceLook:
        """Place a look's tables: ``place`` tells the device address of a copy of an array."""
        behind = look.behind
        pitch = 0 if behind.shape[0] == 1 else behind.strides[0]
        return cls(
            look.effect, look.is_about_some, int(look.heat.weights[0]),
            place(look.is_chosen.view(np.uint8)), place(look.colors),
            place(look.heat.colors[:-1]), Plane(place(behind), pitch),
        )  # fmt: skip


class _Drawing(NamedTuple):
    """What a picture is drawn from, and where."""

    launcher: Launcher
    look: DeviceLook
    logits: int
    parts: dict[str, int]
    """Device addresses in the scratch memory."""
    frame: Plane
    out: Plane
    labels: Plane | None
    confidence: Plane | None


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
        plane: PlaneMap | None = None,
    ) -> None:
        """Work out index maps for outputs on a grid, as those of the tail; labels are its."""
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
            self._defines |= logit_defines(card, dtype)
        self._logs = {"logs": int(card.probabilities)}
        """Of what tells how sure the network is, and no mattes."""
        self._size, self._grid_size = size_of(self._frame), size_of(grid)
        self._maps = maps_of(
            plane or geometry.grid_from_frame(grid, align_corners=card.align_corners)
        )
        self._class_count = np.int32(len(card.classes))

    def spare(self, look: DeviceLook, scratch: int) -> dict[str, Plane]:
        """What the tail must write before a look is drawn, and where where nobody asked for it.

        ``scratch`` is the device address of `scratch_bytes`.
        """
        parts, found = self._parts(look), {}
        for name, item in (("labels", self._label_bytes), ("confidence", 4)):
            if name in parts:
                found[name] = Plane(scratch + parts[name], _pitch(self._frame.width * item))
        if look.effect.is_entropy:  # its values lie there, and the tail does not make them
            found.pop("confidence", None)
        return found

    def scratch_bytes(self, look: DeviceLook) -> int:
        """Device memory that `run` needs."""
        return self._parts(look)["end"]

    def _parts(self, look: DeviceLook) -> dict[str, int]:
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
            end += 256 * pieces(size, 256)
        return {**parts, "end": max(end, 1)}

    def _blocks(self, look: DeviceLook) -> tuple[int, int]:
        step = blur_steps(self._sigma(look))
        return pieces(self._frame.height, step), pieces(self._frame.width, step)

    def _sigma(self, look: DeviceLook) -> float:
        return look.effect.blur * self._frame.height

    def run(
        self,
        launcher: Launcher,
        look: DeviceLook,
        logits: int,
        scratch: int,
        *,
        frame: Plane,
        out: Plane,
        labels: Plane | None = None,
        confidence: Plane | None = None,
    ) -> None:
        """Draw what a look says on a frame into a picture of `Effect.shape`.

        ``logits`` is the device address of the network's output, ``scratch`` that of
        `scratch_bytes`, aligned to 256. Labels and confidence are needed where `spare` names them.
        """
        parts = {name: scratch + offset for name, offset in self._parts(look).items()}
        draws: dict[DrawnBy, Callable[[_Drawing], None]] = {
            "matte": self._matted, "outline": self._outline, "heat": self._heat
        }  # fmt: skip
        draw = draws[look.effect.traits.drawn_by]
        draw(_Drawing(launcher, look, logits, parts, frame, out, labels, confidence))

    def _outline(self, drawn: _Drawing) -> None:
        assert drawn.labels is not None
        radius = np.int32(outline_radius(self._frame.height))
        self._paint(
            drawn.launcher, "draw_outline", self._frame,
            [*plane_of(drawn.labels), drawn.look.flags, drawn.look.colors, self._class_count,
             radius, *self._size, *plane_of(drawn.frame), *plane_of(drawn.out)],
        )  # fmt: skip

    def _heat(self, drawn: _Drawing) -> None:
        look, values = drawn.look, drawn.confidence
        is_confidence = not look.effect.is_entropy
        if not is_confidence or values is None:
            values = Plane(drawn.parts["confidence"], _pitch(self._frame.width * 4))
            count = len(self._card.classes)
            scale = np.float32(1.0 / math.log(count) if count > 1 else 0.0)
            self._matte(
                drawn.launcher, "entropy_pixels", 0,
                [drawn.logits, *self._grid_size, *self._maps, *self._size, scale,
                 *plane_of(values)], **self._logs,
            )  # fmt: skip
        some = drawn.labels if look.is_about_some else None
        self._paint(
            drawn.launcher, "paint_heat", self._frame,
            [*plane_of(values), np.int32(is_confidence), *plane_of(some), look.flags,
             self._class_count, look.tints, np.int32(look.weight), *self._size,
             *plane_of(drawn.frame), *plane_of(drawn.out)],
        )  # fmt: skip

    def _matted(self, drawn: _Drawing) -> None:
        launcher, look, parts = drawn.launcher, drawn.look, drawn.parts
        traits, target = look.effect.traits, drawn.out
        if traits.blurs:
            target = Plane(parts["alpha"], _pitch(self._frame.width))
        pictures: list[Argument] = [
            *self._size,
            *plane_of(drawn.frame),
            *plane_of(look.behind),
            *plane_of(target),
        ]
        kind = 0 if traits.blurs else 1 if traits.alpha else 2
        if self._gives_labels:
            start: list[Argument] = [*plane_of(drawn.labels), look.flags, self._class_count]
            self._matte(launcher, "matte_labels", kind, [*start, *pictures])
        else:
            sets = (parts["best"], parts["winner"])
            points = self._grid.height * self._grid.width
            kernel = Kernel.of("matte_points", self._files, target=kind, **self._defines)
            launcher(
                kernel, (pieces(points, 256), 1), (256, 1),
                [drawn.logits, np.int32(points), look.flags, *sets],
            )  # fmt: skip
            scale = np.float32(0.5 / look.effect.edge_logits)
            start = [drawn.logits, look.flags, *sets, *self._grid_size, *self._maps, scale]
            self._matte(launcher, "matte_pixels", kind, [*start, *pictures])
        if traits.blurs:
            self._blur(drawn, target)

    def _blur(self, drawn: _Drawing, alpha: Plane) -> None:
        launcher, parts, sigma = drawn.launcher, drawn.parts, self._sigma(drawn.look)
        step = blur_steps(sigma)
        blocks = Size(*self._blocks(drawn.look))
        rows, columns = size_of(blocks)
        radius = np.int32(math.ceil(3.0 * sigma / step))
        fall = np.float32(math.log2(math.e) / (2.0 * (sigma / step) ** 2))
        source: list[Argument] = [*plane_of(drawn.frame), *plane_of(alpha), *self._size]
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
            [*source, parts["small"], rows, columns, scale, offset, *plane_of(drawn.out)],
        )  # fmt: skip

    def copy_frame(self, launcher: Launcher, frame: Plane, out: Plane) -> None:
        """The frame as it is, for the left half of ``side-by-side``."""
        size = Size(self._frame.height, 3 * self._frame.width)
        self._paint(launcher, "copy_rows", size, [*plane_of(frame), *size_of(size), *plane_of(out)])

    def _matte(
        self, launcher: Launcher, name: str, target: int, arguments: list[Argument], **defines: int
    ) -> None:
        kernel = Kernel.of(name, self._files, target=target, **(self._defines | defines))
        launcher(kernel, blocks_of(self._frame, _BLOCK), _BLOCK, arguments)

    def _paint(self, launcher: Launcher, name: str, size: Size, arguments: list[Argument]) -> None:
        files = ("common.cu", "effects_paint.cu")
        kernel = Kernel.of(name, files, label_bytes=self._label_bytes)
        launcher(kernel, blocks_of(size, _BLOCK), _BLOCK, arguments)


def _pitch(row_bytes: int) -> int:
    return 16 * pieces(row_bytes, 16)
