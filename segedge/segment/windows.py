"""Windows of a frame through the network: what a segmenter that slides does with each frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import TensorSpec
from segedge.card.axes import rows_axis
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu.memory import ArrayPool
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.workers import Workers
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.options.sliding import Slide, starts
from segedge.segment.fitting import network_size

if TYPE_CHECKING:
    from segedge.cpu.windows import WindowGrid

Infer = Callable[[NDArray[Any]], NDArray[Any]]
"""From the network's input to its output."""


def window_size(card: ModelCard, spec: TensorSpec, slide: Slide) -> Size:
    """Size of the windows; UsageError where the network cannot have such, or not average them."""
    if card.head == "labels":
        raise UsageError(
            "windows are averaged by their logits, and this network gives labels",
            fix="export it without its ArgMax: segedge export cuts it off",
        )
    asked = slide.window or network_size(card, spec)
    first = rows_axis(card.input_layout)
    height, width = spec.shape[first], spec.shape[first + 1]
    slide.check_window(Size(height or asked.height, width or asked.width))
    slide.steps(asked)
    return asked


class SlidePlan:
    """Tables and buffers for the windows of one frame size."""

    def __init__(
        self, card: ModelCard, frame: Size, slide: Slide, *, spec: TensorSpec, workers: Workers
    ) -> None:
        """Lay the windows out over frames of a size; ``spec`` is the network's input."""
        self._card, self._workers = card, workers
        self.window = window_size(card, spec, slide)
        self._frame = frame
        self._under = frame if card.scaling is None else card.scaling.resized(frame)
        step = slide.steps(self.window)
        self._starts = (
            starts(self._under.height, self.window.height, step.height),
            starts(self._under.width, self.window.width, step.width),
        )
        self.geometry = Geometry(frame, frame, 0, 0, frame)
        """The knots that the tail reads lie on the frame itself."""
        dtype = np.dtype(spec.dtype)
        self._cells = {
            (row, column): Preprocess(
                card,
                Geometry(frame, self.window, -top, -left, self._under),
                workers=workers, dtype=dtype.name,
            )
            for row, top in enumerate(self._starts[0])
            for column, left in enumerate(self._starts[1])
        }  # fmt: skip
        calls = -(-len(self._cells) // (slide.batch if spec.shape[0] is None else 1))
        self._batch = -(-len(self._cells) // calls)
        shape = self._cells[0, 0].shape
        self._tensor = np.zeros((self._batch, *shape[1:]), dtype)
        self._grid: WindowGrid | None = None

    @property
    def count(self) -> int:
        """Windows of a frame."""
        return len(self._cells)

    @property
    def grid(self) -> WindowGrid:
        """The averaged logits' grid; known once a frame has run."""
        assert self._grid is not None
        return self._grid

    def run(self, frame: Frame, infer: Infer, pool: ArrayPool) -> NDArray[np.float32]:
        """The averaged logits of all windows, on the knots of `grid`."""
        whole: NDArray[np.float32] | None = None
        for first in range(0, len(self._cells), self._batch):
            cells = list(self._cells)[first : first + self._batch]
            with frame.times.measure("preprocess"):
                tensor = self._tensor[: len(cells)]
                for number, cell in enumerate(cells):
                    self._cells[cell].run(frame.image_hwc, tensor[number : number + 1])
            with frame.times.measure("network"):
                output = infer(tensor)
            with frame.times.measure("tail"):
                if whole is None:
                    whole = self._empty(output, pool)
                for number, (row, column) in enumerate(cells):
                    self.grid.add(output[number : number + 1], row, column, whole)
        assert whole is not None
        return np.log(whole, out=whole) if self.grid.sums else whole

    def _empty(self, output: NDArray[Any], pool: ArrayPool) -> NDArray[np.float32]:
        """Zeros for all knots; the network's first output tells how many there are."""
        if self._grid is None:
            from segedge.cpu.windows import WindowGrid

            grid = self._card.grid_size(output.shape)
            self._grid = WindowGrid(
                self._card, self._frame, self.window, grid, self._starts,
                under=self._under, workers=self._workers,
            )  # fmt: skip
        whole = pool.take(self._grid.shape, np.dtype(np.float32))
        whole[:] = 0.0
        return whole
