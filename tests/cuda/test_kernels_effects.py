"""The effects' kernels against the reference.

They run on the CPU through the shim and, where there is one, on a GPU: see conftest.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shim.cases import EXAMPLES, Buffer, LogitConfig, Placed, a_card, placements, random_logits
from shim.gpu import GpuLauncher, at
from shim.launcher import ShimLauncher

from segedge.cuda.effects import DeviceLook, Effects
from segedge.cuda.runtime.program import Plane
from segedge.cuda.tail import Tail
from segedge.options.effect import TRAITS, Effect, outline_radius
from segedge.reference import effects as truth
from segedge.reference import frame as reference
from segedge.reference.look import Look

Launch = ShimLauncher | GpuLauncher


@dataclass(frozen=True)
class Config(LogitConfig):
    """What the kernels are compiled for."""

    effect: str
    classes: int = 19
    dtype: str = "float32"
    layout: str = "nchw"
    sigmoid: bool = False
    heat: str = "confidence"
    some: bool = True
    probabilities: bool = False

    def __str__(self) -> str:
        kind = f"{self.effect}-{self.classes}-{self.dtype}-{self.layout}-{self.heat}"
        return kind + "-of shares" * self.probabilities


CONFIGS = [
    Config("cutout"),
    Config("cutout", 2, sigmoid=True),
    Config("cutout", 300, "float16", "nhwc"),
    Config("replace", 11, "float16"),
    Config("blur", 11),
    Config("outline", 11),
    Config("outline", 300, some=False),
    Config("heat", 19, some=False),
    Config("heat", 11, "float16", "nhwc"),
    Config("heat", 19, "float16", heat="entropy", some=False),
    Config("heat", 2, sigmoid=True, heat="entropy"),
    Config("heat", 11, heat="entropy", probabilities=True),
    Config("heat", 11, some=False, probabilities=True),
    Config("cutout", 11, probabilities=True),
]


class Run:
    """One picture by the tail and the effects' kernels, and what it should be."""

    def __init__(self, config: Config, placed: Placed, edge: float, launcher: Launch) -> None:
        self.card, self.geometry = config.card(placed), placed.geometry
        rng = np.random.default_rng(placed.seed)
        logits = random_logits(self.card, placed.grid, config.dtype, placed.seed)
        self.logits = np.nan_to_num(logits, nan=-3.0, posinf=3.0, neginf=-3.0)
        count = self.card.channels + config.sigmoid
        chosen = np.flatnonzero(rng.random(min(count, 20)) < 0.4)
        names = tuple(self.card.classes[k] for k in chosen)
        background = "#8040c0" if config.effect == "replace" else ""
        self.effect = Effect(
            config.effect, background, edge, float(rng.choice((0.02, 0.1, 0.25))), config.heat
        )
        self.classes = names if config.some or TRAITS[config.effect].parts_foreground else None
        self.chosen = chosen
        frame = self.geometry.frame
        shape = (frame.height, frame.width, 3)
        self.frame = Buffer(shape, np.uint8, aligned=placed.aligned)
        self.frame.fill(rng.integers(0, 256, shape))
        self.out = Buffer(self.effect.shape(*shape[:2]), np.uint8, aligned=placed.aligned)
        self.tables = Look.of(self.card, self.effect, frame, classes=self.classes, opacity=0.6)
        self.draw(placed, config, launcher)

    def draw(self, placed: Placed, config: Config, launcher: Launch) -> None:
        tables, frame = self.tables, self.geometry.frame
        look = DeviceLook.of(tables, at)
        tail = Tail(self.card, self.geometry, placed.grid, dtype=config.dtype)
        effects = Effects(
            self.card, self.geometry, placed.grid, dtype=config.dtype,
            label_dtype=tail.label_dtype,
        )  # fmt: skip
        scratch = np.full(effects.scratch_bytes(look) + 256, 99, np.uint8)
        shift = -at(scratch) % 256
        spare = effects.spare(look, at(scratch) + shift)
        self.kept = scratch, tables
        if spare:
            work = np.zeros(tail.scratch_bytes, np.uint8)
            tail.run(launcher, at(self.logits), at(work), **spare)
        effects.run(
            launcher, look, at(self.logits), at(scratch) + shift,
            frame=self.frame.plane, out=self.out.plane, **spare,
        )  # fmt: skip
        self.spare = {
            name: np.ndarray(
                (frame.height, frame.width),
                tail.label_dtype if name == "labels" else np.float32,
                scratch, plane.pointer - at(scratch),
                (plane.pitch, tail.label_dtype.itemsize if name == "labels" else 4),
            )
            for name, plane in spare.items()
        }  # fmt: skip


def check(run: Run) -> None:
    frame, found = run.frame.array, run.out.array.astype(int)
    effect, card = run.effect, run.card
    if effect.traits.parts_foreground:
        alpha = truth.matte(run.logits, card, run.geometry, run.chosen.tolist(), effect.edge_logits)
        slack = 1 + 255 * 1.5 * 4e-6 * max(float(np.ptp(run.logits)), 1.0) / effect.edge_logits
        check_matted(run, frame, found, alpha, slack)
    elif effect.name == "outline":
        palette = [color[::-1] for color in card.palette_rgb]
        radius = outline_radius(frame.shape[0])
        chosen = None if run.classes is None else run.chosen.tolist()
        expected = truth.outline(frame, run.spare["labels"], palette, radius, chosen)
        assert np.array_equal(found, expected)
    else:
        check_heat(run, frame, found)


def check_matted(
    run: Run, frame: np.ndarray, found: np.ndarray, alpha: np.ndarray, slack: float
) -> None:
    if run.effect.name == "cutout":
        assert np.abs(found[..., 3] - alpha).max() <= slack
        exact = truth.cutout(frame, found[..., 3].astype(np.uint8))
        assert np.array_equal(found, exact)
    elif run.effect.name == "replace":
        expected = truth.compose(frame, alpha, np.array([0xC0, 0x40, 0x80]))
        assert np.abs(found - expected).max() <= slack + 1
    else:
        sigma = run.effect.blur * frame.shape[0]
        behind = np.floor(truth.blurred_background(frame, alpha, sigma) + 0.5)
        expected = truth.compose(frame, alpha, behind)
        # An opacity that differs by a level changes a block's weights a little, too.
        assert np.abs(found - expected).max() <= 2 * slack + 1


def check_heat(run: Run, frame: np.ndarray, found: np.ndarray) -> None:
    if run.effect.heat == "confidence":
        doubt = 1.0 - run.spare["confidence"]
        exact = reference.confidence(run.logits, run.card, run.geometry)
        assert np.abs(1.0 - doubt - exact).max() < 2e-3
    else:
        doubt = truth.entropy(run.logits, run.card, run.geometry)
    expected = truth.heat(frame, doubt, 0.6)
    if run.classes is not None:
        inside = np.isin(run.spare["labels"], run.chosen)[..., None]
        expected = np.where(inside, expected, frame)
    assert np.abs(found - expected).max() <= 6  # a neighbouring colour of the table


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_pictures_are_the_reference(config: Config, launcher: Launch) -> None:
    @settings(max_examples=max(8, EXAMPLES // 4), deadline=None)
    @given(placements(classes=config.classes), st.sampled_from((0.3, 2.0, 30.0)))
    def check_one(placed: Placed, edge: float) -> None:
        run = Run(config, placed, edge, launcher)
        check(run)
        run.out.assert_untouched_around()

    check_one()


def test_a_network_that_gives_labels_has_hard_edges(launcher: Launch) -> None:
    card = a_card(3, head="labels")
    from segedge.card.geometry import Geometry, Size

    size = Size(13, 21)
    geometry = Geometry.fit(size, size, "stretch")
    labels = np.random.default_rng(0).integers(-1, 5, (1, 7, 9)).astype(np.int32)
    effect = Effect("cutout")
    tables = Look.of(card, effect, size, classes=("c1", "c2"))
    look = DeviceLook.of(tables, at)
    effects = Effects(card, geometry, Size(7, 9), dtype="int32")
    tail = Tail(card, geometry, Size(7, 9), dtype="int32")
    scratch: Any = np.zeros(effects.scratch_bytes(look) + 256, np.uint8)
    shift = -at(scratch) % 256
    spare = effects.spare(look, at(scratch) + shift)
    tail.run(launcher, at(labels), 0, **spare)
    frame = np.random.default_rng(1).integers(0, 256, (13, 21, 3), np.uint8)
    out = np.zeros((13, 21, 4), np.uint8)
    effects.run(
        launcher, look, at(labels), at(scratch) + shift,
        frame=Plane(at(frame), 63), out=Plane(at(out), 84), **spare,
    )  # fmt: skip
    alpha = truth.matte(labels, card, geometry, {1, 2}, 1.0)
    assert np.array_equal(out, truth.cutout(frame, alpha))


def test_rgb_frames_get_rgb_colours() -> None:
    card = a_card(3)
    from segedge.card.geometry import Size

    bgr, rgb = (
        Look.of(card, Effect("replace", "#112233"), Size(2, 2), classes=("c0",), is_rgb=is_rgb)
        for is_rgb in (False, True)
    )
    assert bgr.behind[0, 0].tolist() == [0x33, 0x22, 0x11]
    assert rgb.behind[0, 0].tolist() == [0x11, 0x22, 0x33]
    assert np.array_equal(bgr.colors[:, ::-1], rgb.colors)
    assert np.array_equal(bgr.heat.colors[:, ::-1], rgb.heat.colors)
