"""Smooth: steadies the logits of a video in place; see `segedge.reference.smoothing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cpu.arrays import Converter, strides_of
from segedge.cpu.kernels import steady
from segedge.cpu.kernels.tables import Logits
from segedge.cpu.workers import Workers, shared_workers
from segedge.errors import ModelError
from segedge.frames.frame import Frame
from segedge.options.smoothing import (
    CUT_SHARE,
    CUT_TOLERANCES,
    FINER,
    Changes,
    Flicker,
    Smoothing,
    Step,
    Streams,
)
from segedge.reference.smoothing import taps


@dataclass(frozen=True)
class Past:
    """What is kept of one stream; written by `Smooth.run`."""

    planes: NDArray[np.float32]
    """Smoothed logits, flat, in the order of the network's."""
    guide: NDArray[np.float32]
    """FINER * Gh x FINER * Gw grey levels that belong to them."""
    last_guide: NDArray[np.float32]
    """Guide of the last frame alone; empty where flicker is not counted, like the labels."""
    labels: NDArray[np.uint16]
    """2 x 2 x Gh x Gw: without and with smoothing, of the last frame and the one before."""
    counts: NDArray[np.int64]
    """Changed and returned points, without and with smoothing; then still points."""

    def flicker(self) -> Flicker:
        """What was counted so far."""
        before, after, (still, _) = self.counts.tolist()
        return Flicker(still, Changes(*before), Changes(*after))


class Smooth:
    """Mixes new logits with a stream's past. Used by one thread at a time."""

    def __init__(
        self,
        card: ModelCard,
        grid: Size,
        network: Size,
        *,
        smoothing: Smoothing,
        workers: Workers | None = None,
    ) -> None:
        """Prepare tables and scratch for logits of a grid's size and the network's input of its.

        Raises:
            UsageError: The network gives labels.
        """
        smoothing.check(card)
        self._smoothing = smoothing
        self._workers = workers or shared_workers()
        self._channels, self._sigmoid = card.channels, card.activation == "sigmoid"
        self._size = card.channels * grid.height * grid.width
        self._strides = strides_of(card.logits_layout, card.channels, grid)
        self._tensor_size = 3 * network.height * network.width
        rows = taps(FINER * grid.height, network.height)
        columns = taps(FINER * grid.width, network.width)
        samples = rows.shape[1] * columns.shape[1]
        self._sampled = (
            strides_of(card.input_layout, 3, network), rows, np.ascontiguousarray(columns.T),
            np.array([255.0 * card.std[1] / samples, 255.0 * card.mean[1]], np.float32),
        )  # fmt: skip
        shape = (grid.height, grid.width)
        self._change = np.zeros(shape, np.float32)
        self._guide = np.zeros((FINER * grid.height, FINER * grid.width), np.float32)
        counted = shape if smoothing.flicker else (0, 0)
        self._motion = np.zeros(counted, np.float32)
        self._labels, self._still = np.zeros(counted, np.uint16), np.zeros(counted, np.uint16)
        self._ticket = np.zeros(1, np.int64)
        threads = self._workers.count
        self._differs = np.zeros((threads, 8), np.int64)  # a cache line each
        self._scratch = np.zeros((threads, 5, grid.width), np.float32)
        self._settings = np.array(
            [0.0, 1.0 / smoothing.tolerance, 1.0 / smoothing.margin], np.float32
        )
        self._converter = Converter(self._workers)
        self._single = np.empty(0, np.float32)
        self._arguments: tuple[Any, ...] = ()

    def new_past(self) -> Past:
        """Memory for another stream."""
        counts_flicker = self._smoothing.flicker
        return Past(
            np.zeros(self._size, np.float32),
            np.zeros(self._guide.shape, np.float32),
            np.zeros(self._guide.shape if counts_flicker else (0, 0), np.float32),
            np.zeros((2, 2, *self._labels.shape), np.uint16),
            np.zeros((3, 2), np.int64),
        )

    def run(self, logits: NDArray[Any], tensor: NDArray[Any], *, past: Past, step: Step) -> None:
        """Smooth a frame's logits in place with its stream's past, which becomes the next frame's.

        Both arrays, the network's output and the input that it is from, are C-contiguous float32
        or float16.

        Raises:
            ModelError: The arrays are not what the card says.
        """
        self._check("logits", logits, self._size)
        self._check("input", tensor, self._tensor_size)
        self._measure(tensor.reshape(-1), past, step)
        if logits.dtype == np.float16:
            if not self._single.size:
                self._single = np.empty(self._size, np.float32)
            self._converter.run(logits, self._single)
            self._mix(self._single, past, step)
            self._converter.run(self._single, logits)
        else:
            self._mix(logits.reshape(-1), past, step)

    def _check(self, what: str, array: NDArray[Any], size: int) -> None:
        known = array.dtype in (np.float32, np.float16)
        if array.size != size or not known or not array.flags.c_contiguous:
            raise ModelError(
                f"the network's {what} does not fit its card",
                facts={
                    "expected": f"{size} contiguous float32 or float16",
                    "found": f"{array.size} {array.dtype}",
                },
            )

    def _measure(self, flat: NDArray[Any], past: Past, step: Step) -> None:
        """Guide and change, and whether the scene is another."""
        is_half = flat.dtype == np.float16
        limit = np.float32(CUT_TOLERANCES * self._smoothing.tolerance)
        tensor = steady.Tensor(flat.view(np.uint16) if is_half else flat, is_half, *self._sampled)
        self._arguments = tensor, past.guide, step.afresh, limit, self._guide, self._change
        self._differs[:] = 0
        self._share(self._measure_part)
        self._is_cut = int(self._differs[:, 0].sum()) > CUT_SHARE * self._change.size

    def _mix(self, flat: NDArray[np.float32], past: Past, step: Step) -> None:
        counts_flicker = self._smoothing.flicker
        if counts_flicker:
            still = steady.still_points(self._motion, self._guide, past.last_guide, self._still)
            past.counts[2, 0] += 0 if step.afresh or self._is_cut else still
            self._count(flat, past, step, 0)
        self._settings[0] = 0.0 if self._is_cut else step.kept
        self._arguments = (
            self._logits(flat), past.planes, self._guide, self._change, past.guide, self._settings
        )  # fmt: skip
        self._share(self._mix_part)
        self._arguments = ()
        if counts_flicker:
            self._count(flat, past, step, 1)

    def _count(self, flat: NDArray[np.float32], past: Past, step: Step, which: int) -> None:
        """Labels of the grid against those of the frames before: 0 without smoothing, 1 with."""
        follows = not (step.afresh or self._is_cut)
        self._arguments = self._logits(flat), self._labels
        self._share(self._label_part)
        self._arguments = ()
        last, older = past.labels[which]
        steady.count_changes(self._labels, self._still, last, older, follows, past.counts[which])

    def _logits(self, flat: NDArray[np.float32]) -> Logits:
        return Logits(flat, self._strides, self._channels, self._sigmoid)

    def _share(self, task: Any) -> None:
        self._ticket[0] = 0
        self._workers.run(task)

    def _measure_part(self, participant: int) -> None:
        steady.measure_guide(self._ticket, *self._arguments, self._differs[participant])

    def _mix_part(self, participant: int) -> None:
        steady.blend_rows(self._ticket, *self._arguments, self._scratch[participant])

    def _label_part(self, participant: int) -> None:
        steady.label_grid(self._ticket, *self._arguments, self._scratch[participant])


class SmoothStreams:
    """Smooths the frames of several streams, each with its own past."""

    def __init__(self, card: ModelCard, smoothing: Smoothing) -> None:
        """Start without any; raises UsageError where the network gives labels."""
        smoothing.check(card)
        self._card = card
        self._smoothing = smoothing
        self._smoother: Smooth | None = None
        self._shapes: tuple[Any, ...] = ()
        self._streams: Streams[Past]

    def run(
        self, frame: Frame, logits: NDArray[Any], tensor: NDArray[Any], workers: Workers
    ) -> None:
        """Smooth a frame's logits in place with its stream's past; see `Smooth.run`."""
        smoother = self._smoother
        if smoother is None or self._shapes != (logits.shape, tensor.shape):
            smoother = self._smoother = self._made(logits, tensor, workers)
        assert frame.stream is not None, "asked before"
        past, step = self._streams.step(frame, frame.stream, frame.size)
        smoother.run(logits, tensor, past=past, step=step)

    def _made(self, logits: NDArray[Any], tensor: NDArray[Any], workers: Workers) -> Smooth:
        """For other shapes than before everything starts afresh."""
        network = self._card.size_of_input(tensor.shape)
        grid = self._card.grid_size(logits.shape)
        self._shapes = logits.shape, tensor.shape
        smoother = Smooth(self._card, grid, network, smoothing=self._smoothing, workers=workers)
        self._streams = Streams(self._smoothing, smoother.new_past)
        return smoother

    def flicker(self, stream: int) -> Flicker | None:
        """What was counted of a stream."""
        past = None if self._smoother is None else self._streams.get(stream)
        return past.flicker() if past is not None and self._smoothing.flicker else None

    def reset(self, stream: int) -> None:
        """Forget a stream."""
        if self._smoother is not None:
            self._streams.reset(stream)
