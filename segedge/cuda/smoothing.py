"""Smoothing on the GPU: logits mixed in place with those of the frames before.

The arithmetic is that of `segedge.reference.smoothing`; two launches, see
``kernels/smoothing.cu``. Frames of one stream may be in flight on several CUDA streams at once, so
each `Past` has an event: a frame's smoothing waits for that of the frame before it, while uploads,
networks, tails and downloads of different frames overlap as ever. Whose past it is, and how much of
it counts, differs from frame to frame, so the two kernels are launched plainly between the graph
that ends with the logits and the one that starts with them (`segedge.cuda.slot`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cuda.arguments import logit_defines, pieces, size_of
from segedge.cuda.runtime.array import DeviceArray
from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.program import Argument, Kernel, Launcher
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.options.smoothing import (
    CUT_SHARE,
    CUT_TOLERANCES,
    FINER,
    MOST_LOGIT,
    STILL_LEVELS,
    Changes,
    Flicker,
    Smoothing,
    Step,
    Streams,
)
from segedge.reference.smoothing import taps_a_cell

_BLOCK = 256
_COUNTS = 5
_MOST_SIDE = (1 << 15) - 1
"""Of the network's input: places of samples are worked out in 32 bits."""


class Smooth:
    """Launches the kernels for one network; holds no memory of the GPU."""

    def __init__(
        self,
        card: ModelCard,
        grid: Size,
        network: Size,
        *,
        smoothing: Smoothing,
        dtype: DTypeLike = "float32",
        tensor_dtype: DTypeLike = "float32",
    ) -> None:
        """Work out constants for logits of a grid's size and the network's input, and their types.

        Raises:
            UsageError: The network gives labels, other types than float32 and float16, or has a
                side of 32768 or more.
        """
        smoothing.check(card)
        for what, kind in (("logits", np.dtype(dtype)), ("input", np.dtype(tensor_dtype))):
            if kind not in (np.float32, np.float16):
                raise UsageError(
                    f"no smoothing of {what} of type {kind}",
                    facts={"expected": "float32, float16"},
                )
        if max(network.height, network.width) > _MOST_SIDE:
            raise UsageError(
                f"no smoothing of inputs of {network}",
                facts={"expected": f"sides up to {_MOST_SIDE}"},
            )
        self.smoothing = smoothing
        self._card, self._grid, self._network = card, grid, network
        self._dtype, self._tensor_half = dtype, np.dtype(tensor_dtype) == np.float16
        self._points = grid.height * grid.width

    @property
    def scratch_bytes(self) -> int:
        """Device memory that a frame in flight needs: guide, change, motion, counts of blocks."""
        return 4 * (self._cells + 2 * self._points + self._blocks)

    @property
    def _cells(self) -> int:
        return FINER * FINER * self._points

    @property
    def _blocks(self) -> int:
        return pieces(self._points, _BLOCK)

    def past_shapes(self) -> dict[str, tuple[tuple[int, ...], DTypeLike]]:
        """Shapes and types of what is kept of a stream, by name."""
        counted = self.smoothing.flicker
        return {
            "logits": ((self._card.channels * self._points,), np.float32),
            "guide": ((self._cells,), np.float32),
            "last_guide": ((self._cells if counted else 1,), np.float32),
            "labels": ((4 * self._points if counted else 1,), np.uint16),
            "counts": ((_COUNTS,), np.uint64),
        }

    def run(
        self,
        launcher: Launcher,
        logits: int,
        tensor: int,
        scratch: int,
        *,
        past: Mapping[str, int],
        step: Step,
    ) -> None:
        """Smooth a frame's logits in place with its stream's past, which becomes the next frame's.

        Device addresses, ``past`` by the names of `past_shapes`; ``tensor`` is the input that the
        logits are from, ``scratch`` of `scratch_bytes` is this frame's alone.
        """
        smoothing, blocks = self.smoothing, (self._blocks, 1)
        change = scratch + 4 * self._cells
        motion, differs = change + 4 * self._points, change + 8 * self._points
        afresh = np.int32(step.afresh)
        launcher(
            self._kernel("smooth_guide"), blocks, (_BLOCK, 1),
            [tensor, *self._tensor_arguments(), np.float32(CUT_TOLERANCES * smoothing.tolerance),
             past["guide"], past["last_guide"], afresh, scratch, change, motion, differs],
        )  # fmt: skip
        settings = (1.0 / smoothing.tolerance, 1.0 / smoothing.margin, step.kept)
        launcher(
            self._kernel("smooth_blend"), blocks, (_BLOCK, 1),
            [logits, *size_of(self._grid),
             *map(np.float32, settings), afresh,
             *(past[name] for name in ("logits", "guide", "last_guide", "labels", "counts")),
             scratch, change, motion, differs],
        )  # fmt: skip

    def _tensor_arguments(self) -> list[Argument]:
        """Where the green channel is, the sizes, the samples a cell, and to grey levels."""
        card, network, grid = self._card, self._network, self._grid
        taps = [
            taps_a_cell(FINER * points, pixels)
            for pixels, points in ((network.height, grid.height), (network.width, grid.width))
        ]
        if card.input_layout == "nhwc":
            green, row, column = 1, 3 * network.width, 3
        else:
            green, row, column = network.height * network.width, network.width, 1
        factor = 255.0 * card.std[1] / (taps[0] * taps[1])
        return [
            np.int64(green), np.int32(row), np.int32(column), *size_of(network), *size_of(grid),
            *map(np.int32, taps), np.float32(factor), np.float32(255.0 * card.mean[1]),
        ]  # fmt: skip

    def _kernel(self, name: str) -> Kernel:
        return Kernel.of(
            name,
            ("common.cu", "logits.cu", "smoothing.cu"),
            **logit_defines(self._card, self._dtype),
            tensor_half=self._tensor_half,
            flicker=self.smoothing.flicker,
            finer=FINER,
            cut_share=CUT_SHARE,
            most_logit=MOST_LOGIT,
            still_levels=STILL_LEVELS,
        )


class Past:
    """What is kept of one stream, in GPU memory."""

    def __init__(self, device: Device, smooth: Smooth) -> None:
        """Allocate.

        Raises:
            DeviceError: Not enough memory.
        """
        self._device = device
        self.arrays: dict[str, DeviceArray] = {
            name: device.empty(shape, dtype)
            for name, (shape, dtype) in smooth.past_shapes().items()
        }
        self.addresses = {name: array.pointer for name, array in self.arrays.items()}
        self.smoothed = device.event()
        """Recorded behind the smoothing of the last frame: that of the next one waits for it."""
        counts, stream = self.arrays["counts"], device.stream()
        device.fill(counts.pointer, 0, counts.nbytes, stream)
        stream.sync()  # once a stream of frames; so no frame must wait for it

    def flicker(self) -> Flicker:
        """What was counted up to the last frame; waits for it."""
        stream, counts = self._device.stream(), self.arrays["counts"]
        stream.wait(self.smoothed)
        still, *changes = self._device.download(counts, stream).tolist()
        return Flicker(still, Changes(*changes[:2]), Changes(*changes[2:]))


@dataclass(frozen=True)
class Follow:
    """The past that a frame continues, and how."""

    past: Past
    step: Step


class SmoothStreams:
    """The pasts of several streams of frames."""

    def __init__(self, device: Device, smooth: Smooth) -> None:
        """Start without any."""
        self._counts = smooth.smoothing.flicker
        self._streams = Streams(smooth.smoothing, lambda: Past(device, smooth))

    def follow(self, frame: Frame, number: int, size: tuple[Any, ...]) -> Follow:
        """The past that a frame continues; frames must come in order.

        Raises:
            DeviceError: Not enough memory for another stream.
        """
        return Follow(*self._streams.step(frame, number, size))

    def flicker(self, number: int) -> Flicker | None:
        """What was counted of a stream; None where nothing is."""
        past = self._streams.get(number)
        return past.flicker() if past is not None and self._counts else None

    def reset(self, number: int) -> None:
        """Forget a stream."""
        self._streams.reset(number)

    def clear(self) -> None:
        """Forget all; their last frames must be done."""
        self._streams.clear()
