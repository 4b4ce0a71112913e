"""NumPy in the kernels' place: the same bits, with ties, infinities and every layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu.cases import InputCase, OutputCase, a_card, frames, input_cases, output_cases, sizes
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu.code import Code, kernels, plain
from segedge.cpu.overlay import Blend
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers

WORKERS = Workers(2)
ONLY_KERNELS = {"convert_blocks", "render_confidence"}
"""NumPy itself converts; a confidence waits for its kernel."""


def test_both_have_the_same_functions() -> None:
    names = set(kernels().__all__)
    assert names - ONLY_KERNELS == {name for name in names if hasattr(plain(), name)}


@settings(deadline=None, max_examples=300)
@given(input_cases())
def test_the_tensor_is_the_same(case: InputCase) -> None:
    made = []
    for code in (kernels, plain):
        preprocessor = Preprocess(
            case.card, case.geometry, workers=WORKERS, dtype=case.dtype, code=code
        )
        out = np.full(preprocessor.shape, np.nan, case.dtype)
        preprocessor.run(case.frame, out)
        made.append(out)
    assert np.array_equal(*made)


@settings(deadline=None, max_examples=400)
@given(output_cases(), st.data())
def test_the_outputs_are_the_same(case: OutputCase, data: st.DataObject) -> None:
    assert_same(case.card, case.geometry, case.grid, case.logits, data)


@settings(deadline=None, max_examples=100)
@given(sizes(12), sizes(40), sizes(40), st.sampled_from((11, 300)), st.data())
def test_looked_up_labels_are_the_same(
    grid: Size, size: Size, network: Size, classes: int, data: st.DataObject
) -> None:
    output = np.random.default_rng(grid.height).integers(-3, 320, (1, grid.height, grid.width))
    geometry = Geometry.fit(size, network, "letterbox")
    assert_same(a_card(classes, head="labels"), geometry, grid, output, data)


def assert_same(
    card: ModelCard, geometry: Geometry, grid: Size, logits: np.ndarray, data: st.DataObject
) -> None:
    frame = data.draw(frames(geometry.frame))
    blend = Blend.of(card.palette_rgb, data.draw(st.sampled_from((0.0, 0.3, 1.0))))
    made = [outputs(code, card, geometry, grid, logits, frame, blend) for code in (kernels, plain)]
    for by_kernels, by_numpy in zip(*made, strict=True):
        assert np.array_equal(by_kernels, by_numpy)


def outputs(
    code: Code, card: ModelCard, geometry: Geometry, grid: Size, logits: Any, frame: Any, blend: Any
) -> tuple[np.ndarray, ...]:
    size = geometry.frame
    tail = Tail(card, geometry, grid, workers=WORKERS, code=code)
    labels = np.empty((size.height, size.width), tail.label_dtype)
    overlay = np.empty((size.height, size.width, 3), np.uint8)
    counts = np.empty(len(card.classes), np.int64)
    tail.run(logits, labels=labels, overlay=overlay, frame=frame, blend=blend, class_pixels=counts)
    return labels, overlay, counts
