"""The fused tail against the reference, torch, and itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu.cases import OutputCase, a_card, frames, in_threads, output_cases, sizes
from segedge.card.geometry import FITS, Geometry, Size
from segedge.cpu import plan
from segedge.cpu.memory import ArrayPool
from segedge.cpu.overlay import Blend
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.errors import ModelError, UsageError
from segedge.reference import frame as reference

WORKERS = Workers(2)


def guarded(size: Size, *rest: int, dtype: object) -> tuple[np.ndarray, np.ndarray]:
    """An array with strided rows, and the larger one around it, filled with a pattern."""
    around = np.full((size.height + 2, size.width + 24, *rest), 77, dtype)
    return around[1:-1, 8:-16], around


def assert_untouched(around: np.ndarray) -> None:
    around[1:-1, 8:-16] = 77
    assert np.all(around == 77), "written outside the array"


@settings(deadline=None, max_examples=400)
@given(output_cases(), st.data())
def test_everything_equals_the_reference(case: OutputCase, data: st.DataObject):
    card, geometry, size = case.card, case.geometry, case.geometry.frame
    tail = Tail(card, geometry, case.grid, workers=WORKERS)
    labels, around_labels = guarded(size, dtype=tail.label_dtype)
    overlay, around_overlay = guarded(size, 3, dtype=np.uint8)
    frame = data.draw(frames(size))
    counts = np.full(len(card.classes), -1, np.int64)
    alpha = data.draw(st.sampled_from((0.0, 0.3, 0.5, 1.0)))
    blend = Blend.of(card.palette_rgb, alpha)
    tail.run(
        case.logits, labels=labels, overlay=overlay, frame=frame, blend=blend, class_pixels=counts
    )
    expected = reference.labels(case.logits, card, geometry)
    clear = ~reference.ambiguous(case.logits, card, geometry)
    assert np.array_equal(labels[clear], expected[clear])
    assert np.array_equal(counts, reference.class_pixels(labels, len(card.classes)))
    palette_bgr = [color[::-1] for color in card.palette_rgb]
    painted = reference.overlay(frame, labels, palette_bgr, alpha)
    assert np.abs(overlay.astype(int) - painted).max() <= 1
    assert_untouched(around_labels)
    assert_untouched(around_overlay)


@settings(deadline=None, max_examples=200)
@given(output_cases(), st.sampled_from(("probability", "margin")))
def test_confidence_equals_the_reference(case: OutputCase, kind: str):
    card, geometry = case.card, case.geometry
    finite = np.nan_to_num(case.logits, nan=-3.0, posinf=3.0, neginf=-3.0)
    tail = Tail(card, geometry, case.grid, workers=WORKERS)
    confidence, around = guarded(geometry.frame, dtype=np.float32)
    tail.run(finite, confidence=confidence, confidence_kind=kind)
    expected = reference.confidence(finite, card, geometry, kind=kind)
    np.testing.assert_allclose(confidence, expected, atol=2e-5, rtol=1e-5)
    assert_untouched(around)


@settings(deadline=None, max_examples=60)
@given(output_cases(), st.sampled_from(("probability", "margin")))
def test_the_mean_of_a_confidence_needs_no_map_and_no_number_of_threads(case: OutputCase, kind):
    finite = np.nan_to_num(case.logits, nan=-3.0, posinf=3.0, neginf=-3.0)
    expected = reference.confidence(finite, case.card, case.geometry, kind=kind)
    size, found = case.geometry.frame, []
    for threads in (1, 3):
        tail = Tail(case.card, case.geometry, case.grid, workers=Workers(threads))
        mean, beside = np.full(1, -1.0), np.full(1, -1.0)
        confidence = np.empty((size.height, size.width), np.float32)
        tail.run(finite, mean_confidence=mean, confidence_kind=kind)
        tail.run(
            finite, mean_confidence=beside, confidence=confidence, confidence_kind=kind,
        )  # fmt: skip
        assert mean == beside
        found.append((mean[0], confidence))
    assert found[0][0] == pytest.approx(expected.mean(dtype=np.float64), abs=2e-5, rel=1e-5)
    assert found[0][0] == found[1][0]
    assert np.array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("kind", ["probability", "margin", "entropy"])
@pytest.mark.parametrize("steep", [30.0, 200.0, 1e4])
def test_a_confidence_holds_where_logits_cross_steeply(kind: str, steep: float):
    """Powers of classes far down leave float32 on their way to rows where they count."""
    logits = np.zeros((1, 4, 3, 3), np.float32)
    logits[0, 0] = [[0, 0, 0], [-steep, -steep, 0], [0, 0, 0]]
    logits[0, 1] = [[-steep, -1, 1], [0, 0, -steep], [-1, 2, -steep]]
    logits[0, 2] = [[-2, -1, 0], [0.5, -1, -2], [-steep, -steep, 0]]
    logits[0, 3] = [[-steep, -steep, -steep], [-steep, 0, -steep], [-steep, -steep, -steep]]
    size, card = Size(83, 71), a_card(4)
    geometry = Geometry.fit(size, Size(48, 48), "stretch")
    tail = Tail(card, geometry, Size(3, 3), workers=WORKERS)
    found = np.empty((size.height, size.width), np.float32)
    if kind == "entropy":
        tail.entropy(logits, found)
        values = reference.interpolate(logits, card, geometry)
        shares = np.exp(values - values.max(axis=0))
        shares /= shares.sum(axis=0)
        logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0.0)
        expected = -(shares * logs).sum(axis=0) / np.log(4.0)
        np.testing.assert_allclose(found, expected, atol=2e-4)
        return
    tail.run(logits, confidence=found, confidence_kind=kind)
    expected = reference.confidence(logits, card, geometry, kind=kind)
    np.testing.assert_allclose(found, expected, atol=2e-5 + 2e-7 * steep, rtol=1e-5)


def test_a_confidence_between_knots_that_lie_unevenly():
    """Rows that are clamped to the first knot belong to its cell: its rows are no even steps."""
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=4.0, size=(1, 3, 3, 3)).astype(np.float32)
    size, card, knots = Size(50, 60), a_card(3), np.array([0.0, 3.0, 9.0])
    axes = tuple(plan.knot_axis(pixels, 10, knots) for pixels in (size.height, size.width))
    geometry = Geometry.fit(size, size, "stretch")
    tail = Tail(card, geometry, Size(3, 3), workers=WORKERS, axes=axes)
    found = np.empty((size.height, size.width), np.float32)
    tail.run(logits, confidence=found)
    places = [
        np.interp(np.clip((np.arange(n) + 0.5) * (10 / n) - 0.5, 0.0, 9.0), knots, range(3))
        for n in (size.height, size.width)
    ]
    rows, columns = (
        np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(3))) for place in places
    )
    values = rows @ logits[0].astype(np.float64) @ columns.T
    expected = 1.0 / np.exp(values - values.max(axis=0)).sum(axis=0)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@settings(deadline=None, max_examples=100)
@given(sizes(10), sizes(60), st.integers(2, 12), st.booleans(), st.integers(0, 2**32))
def test_cells_are_exact_against_torch(grid, size, classes, align, seed):
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(seed).normal(size=(1, classes, grid.height, grid.width))
    logits = logits.astype(np.float32)
    up = torch.nn.functional.interpolate(
        torch.from_numpy(logits),
        (size.height, size.width),
        mode="bilinear",
        align_corners=align,
    )
    best = up.topk(2, dim=1).values[0].numpy()
    clear = best[0] - best[1] > 1e-4 * np.ptp(logits)
    card = a_card(classes, align_corners=align)
    labels = np.empty((size.height, size.width), np.uint8)
    Tail(card, Geometry.fit(size, size, "stretch"), grid, workers=WORKERS).run(
        logits, labels=labels
    )
    assert np.array_equal(labels[clear], up.argmax(1)[0].numpy()[clear])


def test_a_class_that_wins_at_no_corner_can_win_inside():
    logits = np.zeros((1, 3, 2, 2), np.float32)
    logits[0, 0] = [[10, -10], [10, -10]]
    logits[0, 1] = [[-10, 10], [-10, 10]]
    logits[0, 2] = 5.0
    size = Size(2, 64)
    labels = np.empty((2, 64), np.uint8)
    tail = Tail(a_card(3, align_corners=True), Geometry.fit(size, size, "stretch"), Size(2, 2))
    tail.run(logits, labels=labels)
    assert labels[0].tolist() == sorted(labels[0].tolist(), key=[0, 2, 1].index)
    assert set(labels[0].tolist()) == {0, 1, 2}


@settings(deadline=None, max_examples=100)
@given(
    sizes(12),
    sizes(40),
    sizes(40),
    st.sampled_from(FITS),
    st.sampled_from(("int64", "int32", "uint8")),
    st.sampled_from((11, 300)),
    st.data(),
)
def test_label_heads_equal_the_reference(grid, size, network, fit, dtype, classes, data):
    card = a_card(classes, head="labels")
    geometry = Geometry.fit(size, network, fit)
    rng = np.random.default_rng(grid.height)
    output = rng.integers(0, 256, (1, grid.height, grid.width)).astype(dtype)
    output[rng.random(output.shape) < 0.7] = 3
    if data.draw(st.booleans()):
        output = output[:, None]
    frame = data.draw(frames(size))
    tail = Tail(card, geometry, grid, workers=WORKERS)
    labels, around = guarded(size, dtype=tail.label_dtype)
    overlay = np.empty((size.height, size.width, 3), np.uint8)
    counts = np.empty(classes, np.int64)
    blend = Blend.of(card.palette_rgb)
    tail.run(output, labels=labels, overlay=overlay, frame=frame, blend=blend, class_pixels=counts)
    assert np.array_equal(labels, reference.labels(output, card, geometry))
    assert np.array_equal(counts, reference.class_pixels(labels, classes))
    palette_bgr = [color[::-1] for color in card.palette_rgb]
    painted = reference.overlay(frame, labels, palette_bgr, 0.5)
    assert np.abs(overlay.astype(int) - painted).max() <= 1
    assert_untouched(around)


def test_full_resolution_logits_of_many_rows_are_shared_among_threads():
    size = Size(300, 200)
    logits = np.random.default_rng(0).normal(size=(1, 11, 300, 200)).astype(np.float32)
    labels = np.empty((300, 200), np.uint8)
    Tail(a_card(), Geometry.fit(size, size, "stretch"), size, workers=WORKERS).run(
        logits, labels=labels
    )
    assert np.array_equal(labels, logits[0].argmax(0))


def test_two_tails_in_two_threads_at_once():
    size, grid = Size(211, 333), Size(17, 23)
    geometry = Geometry.fit(size, Size(128, 192), "letterbox")
    wrong: list[int] = []

    def work(seed: int) -> None:
        logits = np.random.default_rng(seed).normal(size=(1, 11, 17, 23)).astype(np.float32)
        tail = Tail(a_card(), geometry, grid, workers=WORKERS)
        expected = reference.labels(logits, a_card(), geometry)
        clear = ~reference.ambiguous(logits, a_card(), geometry)
        for _ in range(50):
            labels = np.full((211, 333), 99, np.uint8)
            tail.run(logits, labels=labels)
            if not np.array_equal(labels[clear], expected[clear]):
                wrong.append(seed)

    in_threads(work)
    assert wrong == []


def test_what_does_not_fit_is_refused():
    size, grid = Size(16, 24), Size(2, 3)
    tail = Tail(a_card(), Geometry.fit(size, size, "stretch"), grid, workers=WORKERS)
    logits = np.zeros((1, 11, 2, 3), np.float32)
    image = np.zeros((16, 24, 3), np.uint8)
    blend = Blend.of(a_card().palette_rgb)
    with pytest.raises(ModelError, match="does not fit its card"):
        tail.run(np.zeros((1, 12, 2, 3), np.float32), labels=image[..., 0].copy())
    with pytest.raises(UsageError, match="labels does not fit"):
        tail.run(logits, labels=np.zeros((16, 23), np.uint8))
    with pytest.raises(UsageError, match="labels does not fit"):
        tail.run(logits, labels=image[..., 0])
    with pytest.raises(UsageError, match="share memory"):
        tail.run(logits, overlay=image, frame=image, blend=blend)
    with pytest.raises(UsageError, match="needs the frame"):
        tail.run(logits, overlay=image, blend=blend)
    with pytest.raises(UsageError, match="needs a blend"):
        tail.run(logits, overlay=image, frame=image.copy())
    with pytest.raises(UsageError, match="one entry a class"):
        tail.run(logits, class_pixels=np.zeros(3, np.int64))
    with pytest.raises(UsageError, match="no confidence"):
        tail.run(logits, confidence=np.zeros((16, 24), np.float32), confidence_kind="entropy")
    with pytest.raises(UsageError, match="gives labels"):
        Tail(a_card(head="labels"), Geometry.fit(size, size, "stretch"), grid).run(
            np.zeros((1, 2, 3), np.int64), confidence=np.zeros((16, 24), np.float32)
        )


def test_a_single_class_is_everywhere():
    size = Size(9, 20)
    tail = Tail(a_card(1), Geometry.fit(size, size, "stretch"), Size(3, 4), workers=WORKERS)
    labels = np.full((9, 20), 9, np.uint8)
    confidence = np.zeros((9, 20), np.float32)
    tail.run(np.zeros((1, 1, 3, 4), np.float32), labels=labels, confidence=confidence)
    assert not labels.any()
    assert np.all(confidence == 1.0)


def test_the_callers_arrays_are_not_kept():
    pool = ArrayPool()
    size, grid = Size(40, 60), Size(5, 7)
    tail = Tail(a_card(), Geometry.fit(size, size, "stretch"), grid, workers=WORKERS)
    frame, overlay = (pool.take((40, 60, 3), np.uint8) for _ in range(2))
    logits = pool.take((1, 11, 5, 7), np.float16)
    frame[:], logits[:] = 3, 0
    tail.run(logits, overlay=overlay, frame=frame, blend=Blend.of(a_card().palette_rgb))
    del frame, overlay, logits
    assert pool.free_blocks() == 3
