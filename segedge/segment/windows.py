"""Windows of a frame through the network: what a segmenter that slides does with each frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import TensorSpec
from segedge.card.axes import rows_axis
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu.memory import ArrayPool
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.windows import WindowGrid
from segedge.cpu.workers import Workers
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.options.sliding import Slide, starts
from segedge.segment.fitting import network_size

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
        part = Size(min(frame.height, self.window.height), min(frame.width, self.window.width))
        self._part, self._frame = part, frame
        step = slide.steps(self.window)
        self._starts = (
            starts(frame.height, self.window.height, step.height),
            starts(frame.width, self.window.width, step.width),
        )
        self.geometry = Geometry(frame, frame, 0, 0, frame)
        """The frame as it is: nothing is resized."""
        under = Geometry(part, self.window, 0, 0, part)
        dtype = np.dtype(spec.dtype)
        self._preprocessor = Preprocess(card, under, workers=workers, dtype=dtype.name)
        self._cells = [
            (row, column)
            for row in range(len(self._starts[0]))
            for column in range(len(self._starts[1]))
        ]
        calls = -(-len(self._cells) // (slide.batch if spec.shape[0] is None else 1))
        self._batch = -(-len(self._cells) // calls)
        shape = self._preprocessor.shape
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
            cells = self._cells[first : first + self._batch]
            with frame.times.measure("preprocess"):
                tensor = self._tensor[: len(cells)]
                for number, cell in enumerate(cells):
                    self._preprocessor.run(self._under(frame, cell), tensor[number : number + 1])
            with frame.times.measure("network"):
                output = infer(tensor)
            with frame.times.measure("tail"):
                if whole is None:
                    whole = self._empty(output, pool)
                for number, (row, column) in enumerate(cells):
                    self.grid.add(output[number : number + 1], row, column, whole)
        assert whole is not None
        return whole

    def _under(self, frame: Frame, cell: tuple[int, int]) -> NDArray[np.uint8]:
        """The part of the frame under a window."""
        top, left = (first[number] for first, number in zip(self._starts, cell, strict=True))
        image: NDArray[np.uint8] = frame.image_hwc
        return image[top : top + self._part.height, left : left + self._part.width]

    def _empty(self, output: NDArray[Any], pool: ArrayPool) -> NDArray[np.float32]:
        """Zeros for all knots; the network's first output tells how many there are."""
        if self._grid is None:
            grid = self._card.grid_size(output.shape)
            self._grid = WindowGrid(
                self._card, self._frame, self.window, grid, self._starts, workers=self._workers
            )
        whole = pool.take(self._grid.shape, np.dtype(np.float32))
        whole[:] = 0.0
        return whole
