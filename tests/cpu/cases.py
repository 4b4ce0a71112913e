"""Random cards, geometries, logits and frames for the tests of the CPU twin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from segedge.card.card import RESIZE_RULES, ModelCard
from segedge.card.geometry import FITS, Geometry, Scaling, Size
from segedge.card.labels import distinct_palette

CLASS_COUNTS = (2, 3, 11, 19, 150, 300)


def a_card(classes: int = 11, **fields: object) -> ModelCard:
    names = tuple(f"c{i}" for i in range(classes))
    return ModelCard(names, distinct_palette(classes), 16, 24).replace(**fields)


def sizes(most: int) -> st.SearchStrategy[Size]:
    return st.builds(Size, st.integers(1, most), st.integers(1, most))


@st.composite
def frames(draw: st.DrawFn, size: Size) -> np.ndarray:
    """A frame whose rows may be strided, upside down or whose channels may be flipped."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    h, w = size.height, size.width
    kind = draw(st.sampled_from(("plain", "window", "upside down", "flipped channels")))
    wide = rng.integers(0, 256, (h + 2, w + 5, 3), np.uint8)
    window = wide[1 : h + 1, 2 : w + 2]
    if kind == "plain":
        return np.ascontiguousarray(window)
    return {"window": window, "upside down": window[::-1]}.get(kind, window[..., ::-1])


@dataclass
class InputCase:
    card: ModelCard
    geometry: Geometry
    frame: np.ndarray
    dtype: str


@st.composite
def input_cases(draw: st.DrawFn, most: int = 70) -> InputCase:
    frame, network = draw(sizes(most)), draw(sizes(most))
    if draw(st.booleans()):  # the exact 2:1 path
        frame = Size(2 * network.height, 2 * network.width)
    card = a_card(
        2,
        color=draw(st.sampled_from(("rgb", "bgr"))),
        resize=draw(st.sampled_from(RESIZE_RULES)),
        input_layout=draw(st.sampled_from(("nchw", "nhwc"))),
        pad_value=draw(st.integers(0, 255)),
        pad_mean=draw(st.booleans()),
    )
    scaling = draw(st.none() | st.builds(Scaling, shortest=st.integers(1, 60)))
    fit, at_start = draw(st.sampled_from(FITS)), draw(st.booleans())
    geometry = Geometry.fit(frame, network, fit, scaling=scaling, at_start=at_start)
    return InputCase(card, geometry, draw(frames(frame)), draw(st.sampled_from(("f4", "f2"))))


@dataclass
class OutputCase:
    card: ModelCard
    geometry: Geometry
    grid: Size
    logits: np.ndarray


def probabilities_of(logits: np.ndarray, card: ModelCard) -> np.ndarray:
    """What a network gives whose activation stayed inside, of 1 x C x H x W logits."""
    if card.activation == "sigmoid":
        return 1.0 / (1.0 + np.exp(-np.clip(logits, -80.0, 80.0))) - 0.5
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@st.composite
def output_cases(draw: st.DrawFn) -> OutputCase:
    """Logits from smooth to noisy, with ties, in all layouts and types, some with NaN."""
    sigmoid = draw(st.integers(0, 4)) == 0
    classes = 2 if sigmoid else draw(st.sampled_from(CLASS_COUNTS))
    grid = draw(sizes(6 if classes > 19 else 12))
    frame, network = draw(sizes(70)), draw(sizes(40))
    same = draw(st.integers(0, 5))
    if same == 0:  # stride 1: the network gives logits at the input's own size
        frame = network = grid
    card = a_card(
        classes,
        align_corners=draw(st.booleans()),
        activation="sigmoid" if sigmoid else "softmax",
        logits_layout=draw(st.sampled_from(("nchw", "nhwc"))),
        probabilities=draw(st.integers(0, 4)) == 0,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = rng.normal(size=(1, card.channels, grid.height, grid.width))
    logits *= draw(st.sampled_from((0.1, 3.0, 30.0)))
    if draw(st.booleans()):  # most cells uniform, as in real scenes
        logits += 40.0 * (rng.integers(0, 3, logits.shape[1])[None, :, None, None] == 1)
    if draw(st.integers(0, 3)) == 0:  # ties
        logits = np.round(logits)
    if card.probabilities:
        logits = probabilities_of(logits, card)
    if draw(st.integers(0, 4)) == 0:
        broken = rng.random(logits.shape) < 0.2
        logits[broken] = rng.choice([np.nan, np.inf, -np.inf], broken.sum())
    if card.logits_layout == "nhwc":
        logits = logits.transpose(0, 2, 3, 1)
    dtype = draw(st.sampled_from((np.float32, np.float16)))
    with np.errstate(over="ignore"):
        logits = np.ascontiguousarray(logits, dtype)
    if draw(st.integers(0, 4)) == 0:  # a view that is not contiguous
        logits = np.repeat(logits, 2, axis=-1)[..., ::2]
    scaling = draw(st.none() | st.builds(Scaling, shortest=st.integers(1, 60)))
    fit = draw(st.sampled_from(FITS))
    return OutputCase(card, Geometry.fit(frame, network, fit, scaling=scaling), grid, logits)


def in_threads(work: Callable[[int], None], count: int = 4) -> None:
    """Call it in so many threads at once, each with its own number."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
