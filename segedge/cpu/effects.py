"""Effects: cutout, blurred or replaced background, outlines and heat of one frame, in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu import plan
from segedge.cpu.arrays import FlatOutput, address_of, readable_image
from segedge.cpu.kernels import compose, entropy, matte
from segedge.cpu.memory import ArrayPool
from segedge.cpu.overlay import Blend
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Task, Workers, shared_workers
from segedge.options.effect import (
    DrawnBy,
    Effect,
    background_rows,
    blur_steps,
    chosen_classes,
    heat_table_rgb,
    outline_radius,
)

_NO_LABELS = np.zeros((0, 0), np.uint8)


@dataclass(frozen=True)
class Look:
    """An effect prepared for the kernels, for frames of one size."""

    effect: Effect
    is_chosen: NDArray[np.bool_]
    """(classes + 1): which classes it is about; the last entry serves labels that are none."""
    is_about_some: bool
    """Whether the user named classes."""
    colors: NDArray[np.uint8]
    """(classes + 1) x 3 BGR."""
    behind: NDArray[np.uint8]
    """H x W x 3 BGR background, or one row of it; empty without one."""
    heat: Blend
    """The 256 colours of the heat."""

    @classmethod
    def of(
        cls,
        card: ModelCard,
        effect: Effect,
        size: Size,
        *,
        classes: tuple[str, ...] | None = None,
        opacity: float = 0.5,
    ) -> Look:
        """Prepare an effect.

        Args:
            card: Classes and colours.
            effect: What to show.
            size: Of the frames.
            classes: Names of the classes it is about, all of them the card's; None: all, and for a
                foreground all but the background.
            opacity: Share of the colour in ``heat``.

        Raises:
            UsageError: The model cannot have this effect.
            SourceError: The background cannot be read.
        """
        chosen, count = chosen_classes(card, effect, classes), len(card.classes)
        colors = np.zeros((count + 1, 3), np.uint8)
        colors[:count] = np.asarray(card.palette_rgb, np.uint8).reshape(count, 3)[:, ::-1]
        behind = np.zeros((0, 0, 3), np.uint8)
        if effect.background:
            behind = background_rows(effect.background, size)
        heat = Blend.of([tuple(color) for color in heat_table_rgb().tolist()], opacity)
        return cls(effect, chosen, classes is not None, colors, behind, heat)


class Effects:
    """Draws effects from the network's output; the truth is `segedge.reference.effects`.

    Made for one geometry; used by one thread at a time, different objects concurrently.
    """

    def __init__(
        self,
        card: ModelCard,
        geometry: Geometry,
        grid: Size,
        tail: Tail,
        *,
        workers: Workers | None = None,
        pool: ArrayPool | None = None,
    ) -> None:
        """Prepare tables and scratch.

        Args:
            card: What the network's output means.
            geometry: How the frame lies in the network's input.
            grid: Height and width of the network's output.
            tail: Makes labels and confidence where an effect needs them.
            workers: Threads to share the work; the process-wide pool by default.
            pool: Memory of what lies between the steps.
        """
        self._card = card
        self._frame = geometry.frame
        self._tail = tail
        self._workers = workers or shared_workers()
        self._pool = pool or ArrayPool()
        self._output = FlatOutput(card, grid, self._workers)
        self._ticket = np.zeros(1, np.int64)
        self._rows, self._columns = tail.axes
        self._is_lookup = plan.is_lookup(self._rows, self._columns)
        self._units = plan.row_units(self._rows)
        columns = self._columns
        self._column_weights = columns.weights.astype(np.float32)
        self._column_low = np.repeat(columns.low, np.diff(columns.ends, prepend=0))
        self._best = np.zeros((2, grid.height, grid.width), np.float32)
        self._winner = np.zeros((2, grid.height, grid.width), np.int32)
        self._scratch = [
            _Scratch(len(card.classes), self._frame.width) for _ in range(self._workers.count)
        ]

    def run(
        self,
        logits: NDArray[Any],
        frame: NDArray[np.uint8],
        out: NDArray[np.uint8],
        look: Look,
        *,
        labels: NDArray[Any] | None = None,
        confidence: NDArray[np.float32] | None = None,
    ) -> None:
        """Draw.

        Args:
            logits: The network's output, as `Tail.run` takes it.
            frame: H x W x 3 uint8 BGR.
            out: Receives the picture, of `Effect.shape`.
            look: What to draw.
            labels: The frame's labels, where they are known already.
            confidence: The frame's confidence, where it is known already.

        Raises:
            ModelError: The output does not fit the card.
            UsageError: The frame has another shape or type.
        """
        source = readable_image("frame", frame, self._frame)
        draws: dict[DrawnBy, Callable[[], None]] = {
            "matte": lambda: self._matted(logits, source, out, look),
            "outline": lambda: self._outline(logits, source, out, look, labels),
            "heat": lambda: self._heat(logits, source, out, look, labels, confidence),
        }
        draws[look.effect.traits.drawn_by]()

    def matte(self, logits: NDArray[Any], out: NDArray[np.uint8], look: Look) -> None:
        """Opacity of the look's foreground, 0..255, H x W."""
        if self._card.head == "labels":
            labels = self._labels(logits, None)
            flags = np.where(look.is_chosen, 255, 0).astype(np.uint8)
            np.take(flags, np.minimum(labels, flags.size - 1), out=out)
            return
        output, edge = self._output, look.effect.edge_logits
        output.take(logits)
        target = address_of(out), out.strides[0]

        def best(_: int) -> None:
            matte.best_of_sets(
                self._ticket, output.flat, output.strides, output.channels, output.sigmoid,
                look.is_chosen, self._best, self._winner,
            )  # fmt: skip

        def render(participant: int) -> None:
            rows, columns, scratch = self._rows, self._columns, self._scratch[participant]
            matte.render_matte(
                self._ticket, self._units, rows.weights, columns.ends, columns.low, columns.high,
                self._column_weights, output.flat, output.strides, output.channels,
                output.sigmoid, look.is_chosen, self._best, self._winner, edge,
                scratch.contender, scratch.corners, scratch.margins, scratch.lines, *target,
            )  # fmt: skip

        def look_up(participant: int) -> None:
            matte.look_up_matte(
                self._ticket, self._units, self._column_low, self._best, edge,
                self._scratch[participant].lines[0], *target,
            )  # fmt: skip

        self._share(best)
        self._share(look_up if self._is_lookup else render)
        output.release()

    def _matted(
        self, logits: NDArray[Any], frame: NDArray[np.uint8], out: NDArray[np.uint8], look: Look
    ) -> None:
        alpha = self._pool.take((self._frame.height, self._frame.width), np.uint8)
        self.matte(logits, alpha, look)
        if look.effect.traits.alpha:
            planes = (*_rows(alpha), *_rows(frame), *_rows(out))
            self._share_rows(compose.cut_out, *planes)
            return
        if look.effect.traits.blurs:
            behind = self._blurred(frame, alpha, look.effect.blur * self._frame.height)
            self._compose(alpha, frame, _rows(behind), out)
            return
        address, stride = _rows(look.behind)
        repeated = 0 if look.behind.shape[0] == 1 else stride
        self._compose(alpha, frame, (address, repeated), out)

    def _compose(
        self,
        alpha: NDArray[np.uint8],
        frame: NDArray[np.uint8],
        behind: tuple[int, int],
        out: NDArray[np.uint8],
    ) -> None:
        self._share_rows(compose.compose, *_rows(alpha), *_rows(frame), *behind, *_rows(out))

    def _blurred(
        self, frame: NDArray[np.uint8], alpha: NDArray[np.uint8], sigma: float
    ) -> NDArray[np.uint8]:
        """The background, blurred without the foreground; see the reference."""
        step = blur_steps(sigma)
        height, width = self._frame.height, self._frame.width
        rows, columns = -(-height // step), -(-width // step)
        sums = self._pool.take((rows, columns, 4), np.float32)
        blurred = self._pool.take((rows, columns, 4), np.float32)
        small = self._pool.take((rows, columns, 3), np.uint8)
        source = (*_rows(alpha), *_rows(frame))
        self._share(lambda _: compose.sum_blocks(self._ticket, height, width, step, *source, sums))
        side = 2 * int(np.ceil(3.0 * sigma / step)) + 1
        edge = cv2.BORDER_REPLICATE
        cv2.GaussianBlur(sums, (side, side), sigma / step, dst=blurred, borderType=edge)
        compose.divide_blocks(blurred, small)
        if step == 1:
            return small
        whole = self._pool.take((rows * step, columns * step, 3), np.uint8)
        cv2.resize(small, (columns * step, rows * step), whole, interpolation=cv2.INTER_LINEAR)
        return whole[:height, :width]

    def _outline(
        self,
        logits: NDArray[Any],
        frame: NDArray[np.uint8],
        out: NDArray[np.uint8],
        look: Look,
        labels: NDArray[Any] | None,
    ) -> None:
        found = self._labels(logits, labels)
        side = 2 * outline_radius(self._frame.height) + 1
        window = np.ones((side, side), np.uint8)
        low, high = (self._pool.take(found.shape, found.dtype) for _ in range(2))
        cv2.erode(found, window, dst=low)
        cv2.dilate(found, window, dst=high)
        self._share_rows(
            compose.draw_outline, found, low, high, look.colors, look.is_chosen,
            *_rows(frame), *_rows(out),
        )  # fmt: skip

    def _heat(
        self,
        logits: NDArray[Any],
        frame: NDArray[np.uint8],
        out: NDArray[np.uint8],
        look: Look,
        labels: NDArray[Any] | None,
        confidence: NDArray[np.float32] | None,
    ) -> None:
        is_confidence = not look.effect.is_entropy
        values = confidence
        if not is_confidence or values is None:
            values = self._pool.take((self._frame.height, self._frame.width), np.float32)
            if is_confidence:
                self._tail.run(logits, confidence=values)
            else:
                self.entropy(logits, values)
        chosen = self._labels(logits, labels) if look.is_about_some else _NO_LABELS
        size, planes = (self._frame.height, self._frame.width), (*_rows(frame), *_rows(out))
        source, colors = _rows(values), address_of(look.heat.colors)

        def paint(participant: int) -> None:
            compose.paint_heat(
                self._ticket, *size, self._scratch[participant].index, *source, is_confidence,
                chosen, look.is_chosen, colors, look.heat.weights, *planes,
            )  # fmt: skip

        self._share(paint)

    def entropy(self, logits: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Entropy of all classes over that of equal ones, 0..1, H x W."""
        output = self._output
        output.take(logits)
        target = _rows(out)

        def render(participant: int) -> None:
            rows, columns, scratch = self._rows, self._columns, self._scratch[participant]
            entropy.render_entropy(
                self._ticket, self._units, rows.weights, columns.ends, columns.low, columns.high,
                self._column_weights, output.flat, output.strides, output.channels,
                output.sigmoid, scratch.contender, scratch.corners, scratch.lines, *target,
            )  # fmt: skip

        self._share(render)
        output.release()

    def _labels(self, logits: NDArray[Any], known: NDArray[Any] | None) -> NDArray[Any]:
        if known is not None:
            return known
        found = self._pool.take((self._frame.height, self._frame.width), self._tail.label_dtype)
        self._tail.run(logits, labels=found)
        return found

    def _share_rows(self, kernel: Any, *arguments: Any) -> None:
        size = (self._frame.height, self._frame.width)
        self._share(lambda _: kernel(self._ticket, *size, *arguments))

    def _share(self, task: Task) -> None:
        self._ticket[0] = 0
        self._workers.run(task)


def _rows(array: NDArray[Any]) -> tuple[int, int]:
    """Address and bytes from one row to the next."""
    return address_of(array), array.strides[0]


class _Scratch:
    """What one participant writes while it works."""

    def __init__(self, classes: int, width: int) -> None:
        self.contender = np.zeros(classes, np.int32)
        self.corners = np.zeros((classes, 4))
        self.margins = np.zeros(4)
        self.lines = np.zeros((3, width), np.float32)
        self.index = np.zeros(width, np.int32)
