"""The kernel that carries logits against the reference: in the CPU's shim, and on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shim.cases import EXAMPLES, a_card, sizes
from shim.gpu import GpuLauncher, at
from shim.launcher import ShimLauncher

from segedge.card.card import ModelCard
from segedge.card.geometry import FITS, Geometry, Size
from segedge.cuda.motion import Carrier, Key
from segedge.errors import UsageError
from segedge.motion.field import MotionField
from segedge.reference import motion as reference

CONFIGS = [
    {"classes": 5, "finer": 2},
    {"classes": 3, "finer": 1, "dtype": "float16"},
    {"classes": 7, "finer": 2, "logits_layout": "nhwc"},
    {"classes": 2, "finer": 3, "activation": "sigmoid"},
]


@dataclass
class Case:
    card: ModelCard
    geometry: Geometry
    keys: list[reference.Key]


@st.composite
def cases(draw: st.DrawFn, *, classes: int, dtype: str = "float32", **fields: Any) -> Case:
    fields = {"align_corners": draw(st.booleans()), **fields}
    grid, network = draw(sizes(12)), draw(sizes(60))
    card = a_card(classes, input_height=network.height, input_width=network.width, **fields)
    geometry = Geometry.fit(draw(sizes(90)), network, draw(st.sampled_from(FITS)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    plane = (grid.height, grid.width)
    is_nhwc = card.logits_layout == "nhwc"
    shape = (1, *plane, card.channels) if is_nhwc else (1, card.channels, *plane)
    reach = draw(st.sampled_from((0.0, 1.0, 9.0, 1000.0)))
    keys = []
    for _ in range(draw(st.integers(1, 2))):
        blocks = tuple(int(n) for n in rng.integers(1, 8, 2))
        field = MotionField(
            (rng.normal(size=(*blocks, 2)) * reach).astype(np.float32),
            rng.uniform(0.0, 60.0, blocks).astype(np.float32),
            geometry.frame,
        )
        logits = (rng.normal(size=shape) * 4.0).astype(dtype)
        keys.append(reference.Key(logits, field, float(rng.integers(1, 6))))
    return Case(card, geometry, keys)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: "-".join(map(str, c.values())))
def test_carried_logits_equal_the_reference(
    launcher: ShimLauncher | GpuLauncher, config: dict[str, Any]
):
    finer = config["finer"]

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(cases(**{name: value for name, value in config.items() if name != "finer"}))
    def check(case: Case) -> None:
        found = carried(case, finer, launcher)
        expected = reference.carry(case.keys, case.card, case.geometry, finer=finer)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * 16.0)

    check()


def carried(case: Case, finer: int, launcher: ShimLauncher | GpuLauncher) -> np.ndarray:
    logits = case.keys[0].logits
    grid = case.card.grid_size(logits.shape)
    carrier = Carrier(case.card, case.geometry, grid, finer=finer, dtype=logits.dtype)
    out = np.full(carrier.shape, np.nan, np.float32)
    keys = [
        Key(at(key.logits), at(key.field.displacement), at(key.field.residual),
            key.field.blocks, key.frames)
        for key in case.keys
    ]  # fmt: skip
    carrier.run(launcher, keys, at(out))
    return out


@pytest.mark.parametrize("far", [np.nan, np.inf, -np.inf, 1e30])
def test_nothing_is_read_outside(launcher: ShimLauncher | GpuLauncher, far: float):
    """AddressSanitizer watches the same test; here every logit is one of the key's."""
    card, grid = a_card(4, input_height=48, input_width=64), Size(6, 8)
    geometry = Geometry.fit(Size(90, 120), Size(48, 64), "letterbox")
    field = MotionField(
        np.full((5, 7, 2), far, np.float32), np.full((5, 7), np.nan, np.float32), geometry.frame
    )
    logits = np.random.default_rng(0).normal(size=(1, 4, 6, 8)).astype(np.float32)
    logits[0, 0, 0, 0], logits[0, 1, 2, 2] = np.nan, np.inf
    case = Case(card, geometry, [reference.Key(logits, field)])
    found = carried(case, 2, launcher)
    assert np.isfinite(found).all()
    with np.errstate(invalid="ignore"):
        expected = reference.carry(case.keys, card, geometry, finer=2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    assert grid == card.grid_size(logits.shape)


def test_what_cannot_be_carried_is_refused(launcher: ShimLauncher | GpuLauncher):
    size = Size(4, 4)
    geometry = Geometry.fit(size, size, "stretch")
    with pytest.raises(UsageError, match="gives labels"):
        Carrier(a_card(head="labels"), geometry, size)
    with pytest.raises(UsageError, match="one key or two"):
        Carrier(a_card(), geometry, size).run(launcher, [], 0)
