"""Effects: cutout, blurred or replaced background, outlines and heat of one frame, in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu.arrays import FlatOutput, address_of, readable_image, rows_of
from segedge.cpu.kernels import compose, matte
from segedge.cpu.kernels.tables import Rows
from segedge.cpu.memory import ArrayPool
from segedge.cpu.overlay import Blend
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Task
from segedge.options.effect import DrawnBy, blur_steps, outline_radius
from segedge.reference.look import Look

_NO_LABELS = np.zeros((0, 0), np.uint8)


class _Drawing(NamedTuple):
    """What a picture is drawn from, and where."""

    look: Look
    logits: NDArray[Any]
    frame: NDArray[np.uint8]
    out: NDArray[np.uint8]
    labels: NDArray[Any] | None
    confidence: NDArray[np.float32] | None


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
        pool: ArrayPool | None = None,
    ) -> None:
        """Prepare tables and scratch beside those of a tail, which makes labels and confidence."""
        self._card = card
        self._frame = geometry.frame
        self._tail = tail
        self._workers = tail.workers
        self._pool = pool or ArrayPool()
        self._output = FlatOutput(card, grid, self._workers)
        self._ticket = np.zeros(1, np.int64)
        spans = tail.spans
        self._column_low = np.repeat(spans.low, np.diff(spans.ends, prepend=0))
        self._best = np.zeros((2, grid.height, grid.width), np.float32)
        self._winner = np.zeros((2, grid.height, grid.width), np.int32)
        self._index = np.zeros((self._workers.count, self._frame.width), np.int32)

    def run(
        self,
        look: Look,
        logits: NDArray[Any],
        *,
        frame: NDArray[np.uint8],
        out: NDArray[np.uint8],
        labels: NDArray[Any] | None = None,
        confidence: NDArray[np.float32] | None = None,
    ) -> None:
        """Draw what a look says on a BGR frame into a picture of `Effect.shape`.

        Logits are what `Tail.run` takes; labels and confidence are the frame's, where they are
        known already.

        Raises:
            ModelError: The output does not fit the card.
            UsageError: The frame has another shape or type.
        """
        source = readable_image("frame", frame, self._frame)
        draws: dict[DrawnBy, Callable[[_Drawing], None]] = {
            "matte": self._matted, "outline": self._outline, "heat": self._heat
        }  # fmt: skip
        draw = draws[look.effect.traits.drawn_by]
        draw(_Drawing(look, logits, source, out, labels, confidence))

    def matte(self, logits: NDArray[Any], out: NDArray[np.uint8], look: Look) -> None:
        """Opacity of the look's foreground, 0..255, H x W."""
        if self._card.head == "labels":
            labels = self._labels(logits, None)
            flags = np.where(look.is_chosen, 255, 0).astype(np.uint8)
            np.take(flags, np.minimum(labels, flags.size - 1), out=out)
            return
        self._output.take(logits)
        given, spans, edge, target = (
            self._output.logits, self._tail.spans, look.effect.edge_logits, rows_of(out)
        )  # fmt: skip
        self._share(
            lambda _: matte.best_of_sets(
                self._ticket, given, look.is_chosen, self._best, self._winner
            )
        )
        scratch = self._tail.scratch
        if self._tail.is_lookup:
            self._share(
                lambda participant: matte.look_up_matte(
                    self._ticket, spans, self._column_low, self._best, edge,
                    scratch[participant].best[0, : self._frame.width], target,
                )
            )  # fmt: skip
        else:
            self._share(
                lambda participant: matte.render_matte(
                    self._ticket, spans, given, look.is_chosen, self._best, self._winner, edge,
                    scratch[participant], target,
                )
            )  # fmt: skip
        self._output.release()

    def _matted(self, drawn: _Drawing) -> None:
        look, frame, out = drawn.look, drawn.frame, drawn.out
        alpha = self._pool.take((self._frame.height, self._frame.width), np.uint8)
        self.matte(drawn.logits, alpha, look)
        if look.effect.traits.alpha:
            self._share_rows(compose.cut_out, rows_of(alpha), rows_of(frame), rows_of(out))
            return
        if look.effect.traits.blurs:
            blurred = self._blurred(frame, alpha, look.effect.blur * self._frame.height)
            behind = rows_of(blurred)
        else:
            address, stride = rows_of(look.behind)
            behind = (address, 0 if look.behind.shape[0] == 1 else stride)
        self._share_rows(compose.compose, rows_of(alpha), rows_of(frame), behind, rows_of(out))

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
        self._share_rows(compose.sum_blocks, step, rows_of(alpha), rows_of(frame), sums)
        side = 2 * int(np.ceil(3.0 * sigma / step)) + 1
        edge = cv2.BORDER_REPLICATE
        cv2.GaussianBlur(sums, (side, side), sigma / step, dst=blurred, borderType=edge)
        compose.divide_blocks(blurred, small)
        if step == 1:
            return small
        whole = self._pool.take((rows * step, columns * step, 3), np.uint8)
        cv2.resize(small, (columns * step, rows * step), whole, interpolation=cv2.INTER_LINEAR)
        return whole[:height, :width]

    def _outline(self, drawn: _Drawing) -> None:
        look, found = drawn.look, self._labels(drawn.logits, drawn.labels)
        side = 2 * outline_radius(self._frame.height) + 1
        window = np.ones((side, side), np.uint8)
        low, high = (self._pool.take(found.shape, found.dtype) for _ in range(2))
        cv2.erode(found, window, dst=low)
        cv2.dilate(found, window, dst=high)
        self._share_rows(
            compose.draw_outline, found, low, high, look.colors, look.is_chosen,
            rows_of(drawn.frame), rows_of(drawn.out),
        )  # fmt: skip

    def _heat(self, drawn: _Drawing) -> None:
        look, logits, values = drawn.look, drawn.logits, drawn.confidence
        is_confidence = not look.effect.is_entropy
        if not is_confidence or values is None:
            values = self._pool.take((self._frame.height, self._frame.width), np.float32)
            if is_confidence:
                self._tail.run(logits, confidence=values)
            else:
                self._tail.entropy(logits, values)
        chosen = self._labels(logits, drawn.labels) if look.is_about_some else _NO_LABELS
        heat = Blend.from_tints(look.heat)
        size, source, colors = (self._frame.height, self._frame.width), rows_of(values), heat.colors
        planes: tuple[Rows, Rows] = (rows_of(drawn.frame), rows_of(drawn.out))
        self._share(
            lambda participant: compose.paint_heat(
                self._ticket, *size, self._index[participant], source, is_confidence, chosen,
                look.is_chosen, address_of(colors), heat.weights, *planes,
            )
        )  # fmt: skip

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
