"""Random geometries, frames and logits for one kernel configuration at a time.

A configuration is what kernels are compiled for (classes, layouts, types, outputs); everything that
they take at run time is drawn by hypothesis. So a test compiles a few variants and tries hundreds
of cases on each.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from shim.gpu import at
from shim.launcher import ASAN

from segedge.card.card import RESIZE_RULES, ModelCard
from segedge.card.geometry import FITS, Geometry, Scaling, Size
from segedge.cuda.runtime.program import Plane
from tests.cpu.cases import a_card, probabilities_of

GUARD = 77
EXAMPLES = int(os.environ.get("SEGEDGE_EXAMPLES", 15 if ASAN else 60))
"""Random cases a configuration; few where each instruction is watched."""


def sizes(most: int, step: int = 1) -> st.SearchStrategy[Size]:
    lengths = st.integers(1, most // step).map(lambda n: n * step)
    return st.builds(Size, lengths, lengths)


class Buffer:
    """A picture with rows at a pitch, inside memory that must stay as it is.

    Allocated to the byte, so that AddressSanitizer sees a read beyond the last row.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, *, aligned: bool) -> None:
        item = np.dtype(dtype).itemsize
        row_bytes = int(np.prod(shape[1:])) * item
        pitch = -(-row_bytes // 16) * 16 if aligned else row_bytes + 3 * item
        start = 16 if aligned else item
        self._memory = _ending_at(start + (shape[0] - 1) * pitch + row_bytes)
        strides = (pitch, *np.empty((1, *shape[1:]), dtype).strides[1:])
        self.array = np.ndarray(shape, dtype, self._memory, start, strides)
        self.plane = Plane(at(self.array), pitch)

    def fill(self, values: Any) -> Buffer:
        self.array[...] = values
        return self

    def assert_untouched_around(self) -> None:
        saved = self.array.copy()
        self.array.view(np.uint8)[...] = GUARD
        assert np.all(self._memory == GUARD), "written outside the array"
        self.array[...] = saved


def _ending_at(size: int) -> np.ndarray:
    """Bytes that start at a multiple of 16 and end where their allocation ends."""
    for extra in range(0, 16):
        raw = np.full(size + extra, GUARD, np.uint8)
        if (raw.ctypes.data + extra) % 16 == 0:
            return raw[extra:]
    raise AssertionError("no address is a multiple of 16")


SCALINGS = st.none() | st.builds(Scaling, shortest=st.integers(1, 60))


@dataclass
class Placed:
    """A geometry and the seed of everything random in it."""

    geometry: Geometry
    grid: Size
    align_corners: bool
    aligned: bool
    seed: int


@st.composite
def placements(draw: st.DrawFn, *, classes: int = 2, even: bool = False, **kw: Any) -> Placed:
    """Frames, networks and grids of any sizes; sometimes all the same (stride 1)."""
    grid = draw(sizes(6 if classes > 19 else 12))
    frame, network = draw(sizes(140, 2 if even else 1)), draw(sizes(60))
    if not even and draw(st.integers(0, 6)) == 0:
        frame = network = grid
    return Placed(
        Geometry.fit(frame, network, draw(st.sampled_from(FITS)), scaling=draw(SCALINGS)),
        grid,
        draw(st.booleans()),
        kw.get("aligned", draw(st.booleans())),
        draw(st.integers(0, 2**32)),
    )


@st.composite
def inputs(draw: st.DrawFn, *, even: bool = False, halving: bool = False) -> Placed:
    """Frames and networks; with ``halving`` frames twice the network and widths in fours."""
    network = draw(sizes(50))
    frame = draw(sizes(90, 2 if even else 1))
    if halving:
        network = Size(network.height, 4 * draw(st.integers(1, 40)))
        frame = Size(2 * network.height, 2 * network.width)
    fit = draw(st.sampled_from(FITS))
    return Placed(
        Geometry.fit(frame, network, fit, scaling=None if halving else draw(SCALINGS)),
        network,
        False,
        halving or draw(st.booleans()),
        draw(st.integers(0, 2**32)),
    )


class LogitConfig:
    """What all kernels that read logits are compiled for; test files add what theirs is for."""

    classes: int
    dtype: str
    layout: str
    sigmoid: bool
    probabilities: bool
    """Whether the output holds those instead of logits."""

    def card(self, placed: Placed) -> ModelCard:
        return a_card(
            self.classes,
            activation="sigmoid" if self.sigmoid else "softmax",
            logits_layout=self.layout,
            align_corners=placed.align_corners,
            probabilities=self.probabilities,
        )


def random_logits(card: ModelCard, grid: Size, dtype: str, seed: int) -> np.ndarray:
    """From smooth to noisy, some with ties, NaN and infinities; of probabilities where the card
    says so."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(1, card.channels, grid.height, grid.width))
    logits *= rng.choice((0.1, 3.0, 30.0))
    if rng.random() < 0.5:  # most cells uniform, as in real scenes
        logits += 40.0 * (rng.integers(0, 3, logits.shape[1])[None, :, None, None] == 1)
    if rng.random() < 0.25:
        logits = np.round(logits)
    if card.probabilities:
        logits = probabilities_of(logits, card)
    if rng.random() < 0.2:
        broken = rng.random(logits.shape) < 0.2
        logits[broken] = rng.choice([np.nan, np.inf, -np.inf], broken.sum())
    if card.logits_layout == "nhwc":
        logits = logits.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(logits, dtype)


__all__ = [
    "EXAMPLES", "FITS", "RESIZE_RULES", "Buffer", "Placed", "a_card", "inputs", "placements",
    "sizes",
]  # fmt: skip
