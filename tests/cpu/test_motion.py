"""The CPU's carrier against the reference, and what carrying must keep whatever moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.card.geometry import Geometry, Size
from segedge.cpu.motion import Carrier, Key
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.errors import ModelError, UsageError
from segedge.motion.field import MotionField
from segedge.reference import frame as reference_frame
from segedge.reference import motion as reference
from tests.cpu.cases import OutputCase, a_card, output_cases

FINERS = (1, 2, 3, 4)


@dataclass
class CarryCase:
    output: OutputCase
    other: np.ndarray
    """Logits of a second key."""
    fields: list[MotionField]
    frames: tuple[float, float]
    finer: int


@st.composite
def carry_cases(draw: st.DrawFn) -> CarryCase:
    output = draw(output_cases())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    other = np.asarray(rng.permuted(output.logits, axis=1))
    reach = draw(st.sampled_from((0.0, 1.0, 7.0, 1000.0)))
    fields = [a_field(rng, output.geometry.frame, reach) for _ in range(2)]
    frames = (float(rng.integers(1, 6)), float(rng.integers(1, 6)))
    return CarryCase(output, other, fields, frames, draw(st.sampled_from(FINERS)))


def a_field(rng: np.random.Generator, frame: Size, reach: float) -> MotionField:
    blocks = tuple(int(n) for n in rng.integers(1, 9, 2))
    displacement = rng.normal(0.0, 1.0, (*blocks, 2)) * reach
    residual = rng.uniform(0.0, 60.0, blocks)
    return MotionField(displacement.astype(np.float32), residual.astype(np.float32), frame)


def carried(case: CarryCase, count: int, workers: Workers) -> tuple[Carrier, np.ndarray]:
    output = case.output
    carrier = Carrier(output.card, output.geometry, output.grid, finer=case.finer, workers=workers)
    logits = [carrier.keep(output.logits), carrier.keep(case.other)]
    keys = [Key(*key) for key in zip(logits, case.fields, case.frames, strict=True)]
    out = np.full(carrier.shape, np.nan, np.float32)
    carrier.run(keys[:count], out)
    return carrier, out


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_logits_equal_the_reference(count: int, threads: int):
    workers = Workers(threads)

    @settings(deadline=None, max_examples=60)
    @given(carry_cases())
    def check(case: CarryCase) -> None:
        output = case.output
        _, found = carried(case, count, workers)
        logits = [output.logits, case.other]
        keys = [reference.Key(*key) for key in zip(logits, case.fields, case.frames, strict=True)]
        expected = reference.carry(keys[:count], output.card, output.geometry, finer=case.finer)
        assert found.shape == expected.shape
        assert np.isfinite(found).all()
        if np.isfinite(output.logits).all():  # a weight of 1e-17 times 1e30 is no rounding
            most = max(1.0, float(np.abs(output.logits).max()))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * most)

    check()
    workers.close()


@settings(deadline=None, max_examples=60)
@given(output_cases(), st.sampled_from(FINERS), st.booleans())
def test_without_motion_nothing_changes(output: OutputCase, finer: int, pair: bool):
    workers = Workers(1)
    carrier = Carrier(output.card, output.geometry, output.grid, finer=finer, workers=workers)
    key = Key(carrier.keep(output.logits), MotionField.still(output.geometry.frame))
    out = np.empty(carrier.shape, np.float32)
    carrier.run([key] * (1 + pair), out)
    kept = key.logits[None, ..., : output.card.channels]
    points = out if is_nhwc(output) else out.transpose(0, 2, 3, 1)
    assert np.array_equal(points[:, ::finer, ::finer], kept)  # to the bit, but for the sign of zero
    # The labels of the tail are those of the key, too: by the truth, which knows no finer grid.
    labels = np.empty((output.geometry.frame.height, output.geometry.frame.width), np.uint16)
    tail_of(carrier, output, workers).run(out, labels=labels)
    expected = reference_frame.labels(output.logits, output.card, output.geometry)
    clear = ~reference_frame.ambiguous(output.logits, output.card, output.geometry)
    if np.isfinite(output.logits).all():  # 1e-16 of a point beside one that is not decides, else
        assert np.array_equal(labels[clear], expected[clear])


def is_nhwc(output: OutputCase) -> bool:
    return output.card.logits_layout == "nhwc"


def tail_of(carrier: Carrier, output: OutputCase, workers: Workers) -> Tail:
    return Tail(output.card, output.geometry, carrier.grid, workers=workers, axes=carrier.axes)


@settings(deadline=None, max_examples=40)
@given(carry_cases(), st.sampled_from((np.nan, np.inf, -np.inf, 1e30, -1e30)))
def test_nothing_is_read_outside(case: CarryCase, far: float):
    """Every logit lies between the lowest and the highest of its channel in the key."""
    workers = Workers(1)
    field = case.fields[0]
    field.displacement[::2, :, 0] = far
    field.displacement[:, ::2, 1] = far
    field.residual[0, 0] = np.nan
    _, found = carried(case, 1, workers)
    output = case.output
    axes = (0, 1, 2) if is_nhwc(output) else (0, 2, 3)
    kept = Carrier(output.card, output.geometry, output.grid).keep(output.logits)
    channels = kept[..., : output.card.channels].reshape(-1, output.card.channels)
    span = 1e-5 * max(1.0, float(np.abs(channels).max()))
    assert (found.min(axes) >= channels.min(0) - span).all()
    assert (found.max(axes) <= channels.max(0) + span).all()


@pytest.mark.parametrize("finer", [1, 2, 4])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_whole_points_shift_the_labels(finer: int, align_corners: bool, fit: Any):
    """A shift by whole carried points moves the key's labels, and invents none."""
    grid, network, frame = Size(12, 20), Size(96, 160), Size(96, 160)
    frame = {"letterbox": Size(96, 80), "crop": Size(144, 160)}.get(fit, frame)
    if align_corners:
        network = Size(89, 153)
        frame = network if fit == "stretch" else frame
    card = a_card(5, align_corners=align_corners)
    geometry = Geometry.fit(frame, network, fit)
    logits = np.random.default_rng(1).normal(size=(1, 5, 12, 20)).astype(np.float32)
    plane = geometry.grid_from_frame(grid, align_corners=align_corners)
    points = 3
    shift = points / finer / plane.x.scale
    workers = Workers(1)
    carrier = Carrier(card, geometry, grid, finer=finer, workers=workers)
    field = MotionField(np.float32([[[shift, 0.0]]]), np.zeros((1, 1), np.float32), frame)
    still, moved = np.empty(carrier.shape, np.float32), np.empty(carrier.shape, np.float32)
    kept = carrier.keep(logits)
    carrier.run([Key(kept, MotionField.still(frame))], still)
    carrier.run([Key(kept, field)], moved)
    inside = columns_inside(plane.x.offset, plane.x.scale, carrier.grid.width, finer, frame.width)
    stays = inside & np.roll(inside, -points)
    stays[-points:] = False
    assert stays.sum() >= 3
    np.testing.assert_allclose(
        moved[..., stays], np.roll(still, -points, axis=3)[..., stays], atol=1e-4
    )


def columns_inside(offset: float, scale: float, points: int, finer: int, pixels: int) -> np.ndarray:
    pixel = (np.arange(points) / finer - offset) / scale
    return (pixel >= 0) & (pixel <= pixels - 1)


def test_the_better_and_nearer_key_counts_more():
    card, size = a_card(2), Size(8, 8)
    geometry = Geometry.fit(size, size, "stretch")
    carrier = Carrier(card, geometry, size, finer=1)
    low, high = (carrier.keep(np.full((1, 2, 8, 8), value, np.float32)) for value in (0.0, 1.0))

    def mixed(residuals: tuple[float, float], frames: tuple[float, float]) -> float:
        fields = [
            MotionField(np.zeros((1, 1, 2), np.float32), np.full((1, 1), r, np.float32), size)
            for r in residuals
        ]
        keys = [Key(*key) for key in zip((low, high), fields, frames, strict=True)]
        out = np.empty(carrier.shape, np.float32)
        carrier.run(keys, out)
        return float(out[0, 0, 4, 4])

    assert mixed((0.0, 0.0), (1.0, 1.0)) == 0.5
    assert mixed((0.0, 0.0), (1.0, 3.0)) == pytest.approx(0.25)
    assert mixed((6.0, 0.0), (1.0, 1.0)) == pytest.approx(0.8)


def test_fields_of_other_blocks_follow_each_other():
    """Tables and scratch belong to the field, not to the first one that came."""
    rng = np.random.default_rng(0)
    card, frame, grid = a_card(3), Size(40, 56), Size(5, 7)
    geometry = Geometry.fit(frame, frame, "stretch")
    logits = rng.normal(size=(1, 3, 5, 7)).astype(np.float32)
    carrier = Carrier(card, geometry, grid)
    out = np.empty(carrier.shape, np.float32)
    for blocks in ((2, 3), (9, 40), (1, 1), (2, 3)):
        field = MotionField(
            rng.normal(0, 5, (*blocks, 2)).astype(np.float32), np.zeros(blocks, np.float32), frame
        )
        carrier.run([Key(carrier.keep(logits), field)], out)
        expected = reference.carry([reference.Key(logits, field)], card, geometry, finer=2)
        np.testing.assert_allclose(out, expected, atol=1e-5)


def test_what_does_not_fit_is_refused():
    card, size = a_card(3), Size(4, 4)
    geometry = Geometry.fit(size, size, "stretch")
    carrier = Carrier(card, geometry, size, finer=1)
    key = Key(carrier.keep(np.zeros((1, 3, 4, 4), np.float32)), MotionField.still(size))
    out = np.empty(carrier.shape, np.float32)
    with pytest.raises(UsageError, match="one key or two"):
        carrier.run([], out)
    with pytest.raises(UsageError, match="does not fit"):
        carrier.run([key], out[:, :2])
    with pytest.raises(UsageError, match="another size"):
        carrier.run([Key(key.logits, MotionField.still(Size(4, 5)))], out)
    with pytest.raises(ModelError, match="does not fit its card"):
        carrier.keep(np.zeros((1, 3, 4, 5), np.float32))
    with pytest.raises(UsageError, match="labels cannot be carried"):
        Carrier(a_card(3, head="labels"), geometry, size)
