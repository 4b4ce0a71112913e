"""Random sequences for smoothing: logits and inputs that move a little, cut, or hold nonsense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.labels import distinct_palette
from segedge.options.smoothing import Flicker, Smoothing, Step

CONFIGS: list[dict[str, Any]] = [
    {"classes": 1},
    {"classes": 11},
    {"classes": 11, "dtype": "float16", "tensor_dtype": "float16"},
    {"classes": 5, "layout": "nhwc", "tensor_layout": "nhwc", "dtype": "float16"},
    {"classes": 2, "sigmoid": True},
    {"classes": 2, "sigmoid": True, "layout": "nhwc", "tensor_dtype": "float16"},
    {"classes": 300, "flicker": False},
]
"""What `sequences` is drawn with."""


@dataclass
class Sequence:
    """A few frames of one stream, and how they are smoothed."""

    card: ModelCard
    grid: Size
    network: Size
    smoothing: Smoothing
    frames: list[tuple[np.ndarray, np.ndarray, Step]]
    """Logits, input, and how the frame follows the one before."""


@st.composite
def sequences(
    draw: st.DrawFn,
    *,
    classes: int,
    dtype: str = "float32",
    layout: str = "nchw",
    sigmoid: bool = False,
    tensor_dtype: str = "float32",
    tensor_layout: str = "nchw",
    flicker: bool = True,
) -> Sequence:
    """Sequences of one configuration; sizes, settings and values are drawn."""
    grid = Size(draw(st.integers(1, 20)), draw(st.integers(1, 40)))
    network = Size(
        grid.height * draw(st.integers(1, 5)) + draw(st.integers(0, 3)),
        grid.width * draw(st.integers(1, 5)) + draw(st.integers(0, 3)),
    )
    card = ModelCard(
        tuple(f"c{i}" for i in range(classes)), distinct_palette(classes),
        network.height, network.width,
        logits_layout=layout, input_layout=tensor_layout,
        activation="sigmoid" if sigmoid else "softmax",
    )  # fmt: skip
    smoothing = Smoothing(
        strength=draw(st.sampled_from((0.0, 0.5, 0.8, 0.97))),
        tolerance=draw(st.sampled_from((2.0, 8.0, 40.0))),
        margin=draw(st.sampled_from((0.5, 4.0, 1e6))),
        flicker=flicker,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    frames = _frames(rng, card, grid, network, smoothing, dtype, tensor_dtype)
    return Sequence(card, grid, network, smoothing, frames)


def _frames(
    rng: Any, card: ModelCard, grid: Size, network: Size, smoothing: Smoothing, dtype: str,
    tensor_dtype: str,
) -> list[tuple[np.ndarray, np.ndarray, Step]]:  # fmt: skip
    image = rng.normal(size=(1, 3, network.height, network.width))
    planes = rng.normal(size=(1, card.channels, grid.height, grid.width)) * 5
    frames = []
    for index in range(5):
        image = image + rng.normal(size=image.shape) * rng.choice((0.0, 0.02, 0.2))
        image[..., : rng.integers(0, network.width + 1)] += rng.choice((0.0, 0.0, 0.1))
        if rng.random() < 0.15:
            image = -image
        planes = planes + rng.normal(size=planes.shape)
        given = planes.copy()
        if rng.random() < 0.2:
            broken = rng.random(given.shape) < 0.05
            given[broken] = rng.choice([np.nan, np.inf, -np.inf, 2e4], broken.sum())
        tensor = image
        if card.input_layout == "nhwc":
            tensor = tensor.transpose(0, 2, 3, 1)
        if card.logits_layout == "nhwc":
            given = given.transpose(0, 2, 3, 1)
        afresh = index == 0 or rng.random() < 0.1
        step = Step(0.0 if afresh else smoothing.kept(float(rng.choice((0.02, 0.04, 0.1)))), afresh)
        frames.append((
            np.ascontiguousarray(given, dtype), np.ascontiguousarray(tensor, tensor_dtype), step
        ))  # fmt: skip
    return frames


def figures(flicker: Flicker) -> np.ndarray:
    before, after = flicker.before, flicker.after
    return np.array([flicker.still, before.changed, before.returned, after.changed, after.returned])


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    found, half = found.astype(np.float64), found.dtype == np.float16
    finite = np.isfinite(expected)
    assert np.array_equal(found[~finite], expected[~finite], equal_nan=True)
    # A scene that changes at just the half of its points may be cut or not: none is drawn here.
    np.testing.assert_allclose(
        found[finite], expected[finite], atol=0.02 if half else 2e-3, rtol=2e-3 if half else 1e-4
    )
