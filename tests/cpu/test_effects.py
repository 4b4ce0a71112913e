"""Effects against the reference: random logits, geometries, layouts and foregrounds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu.cases import OutputCase, a_card, output_cases
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu.effects import Effects
from segedge.cpu.memory import ArrayPool
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.errors import SourceError, UsageError
from segedge.options.effect import Effect, background_rows, blur_steps, heat_table_rgb
from segedge.reference import effects as truth
from segedge.reference import frame as reference
from segedge.reference.look import Look

SOFT = Effect("cutout", edge_logits=2.0)
SIZE = Size(40, 60)


def effects_of(case: OutputCase, *, threads: int = 2) -> Effects:
    workers = Workers(threads)
    tail = Tail(case.card, case.geometry, case.grid, workers=workers)
    return Effects(case.card, case.geometry, case.grid, tail)


def look_of(case: OutputCase, effect: Effect, classes: tuple[str, ...] | None = None, **kw) -> Look:
    return Look.of(case.card, effect, case.geometry.frame, classes=classes, **kw)


def frame_of(case: OutputCase, seed: int = 0) -> np.ndarray:
    size = case.geometry.frame
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (size.height, size.width, 3), np.uint8)


def drawn(case: OutputCase, look: Look, frame: np.ndarray) -> np.ndarray:
    size = case.geometry.frame
    out = np.full(look.effect.shape(size.height, size.width), 77, np.uint8)
    effects_of(case).run(look, case.logits, frame=frame, out=out)
    return out


def scene(size: Size = SIZE, classes: int = 4, seed: int = 0) -> OutputCase:
    """Large regions with clear borders, as networks give them."""
    rng = np.random.default_rng(seed)
    small = rng.normal(size=(classes, 3, 4)).astype(np.float32) * 12
    planes = [cv2.resize(plane, (9, 7), interpolation=cv2.INTER_CUBIC) for plane in small]
    card = a_card(classes)
    network = Size(56, 72)
    return OutputCase(
        card, Geometry.fit(size, network, "stretch"), Size(7, 9), np.stack(planes)[None]
    )


@settings(max_examples=150, deadline=None)
@given(output_cases(), st.data())
def test_the_matte_is_the_reference(case: OutputCase, data: st.DataObject):
    classes = len(case.card.classes)
    chosen = data.draw(st.sets(st.integers(0, min(classes, 20) - 1), max_size=8))
    edge = data.draw(st.sampled_from((0.05, 1.0, 4.0, 60.0)))
    names = tuple(case.card.classes[k] for k in sorted(chosen))
    size = case.geometry.frame
    found = np.full((size.height, size.width), 77, np.uint8)
    look = look_of(case, Effect("cutout", edge_logits=edge), names)
    logits = np.nan_to_num(case.logits.astype(np.float32), nan=-9.0, posinf=9.0, neginf=-9.0)
    effects_of(case).matte(logits, found, look)
    expected = truth.matte(logits, case.card, case.geometry, chosen, edge)
    tolerance = 1 + 255 * 1.5 * (1e-5 * max(float(np.ptp(logits)), 1.0)) / edge
    assert np.abs(found.astype(int) - expected).max() <= tolerance


def test_infinite_logits_win_and_nan_loses():
    logits = np.zeros((1, 3, 4, 6), np.float32)
    logits[0, 0] = np.nan
    logits[0, 2, :, 3:] = np.inf
    size = Size(16, 24)
    case = OutputCase(a_card(3), Geometry.fit(size, size, "stretch"), Size(4, 6), logits)
    alpha = np.empty((16, 24), np.uint8)
    effects_of(case).matte(logits, alpha, look_of(case, SOFT, ("c0",)))
    assert np.all(alpha == 0)
    effects_of(case).matte(logits, alpha, look_of(case, SOFT, ("c2",)))
    assert np.all(alpha[:, 12:] == 255)
    assert np.all(alpha[:, :9] == 128)  # two logits of zero


def test_half_opacity_is_where_the_label_changes():
    case = scene()
    alpha = np.empty((40, 60), np.uint8)
    effects_of(case).matte(case.logits, alpha, look_of(case, SOFT, ("c1", "c3")))
    labels = reference.labels(case.logits, case.card, case.geometry)
    clear = ~reference.ambiguous(case.logits, case.card, case.geometry)
    inside = np.isin(labels, (1, 3))
    assert np.all(alpha[inside & clear] >= 127)
    assert np.all(alpha[~inside & clear] <= 128)
    assert 0 < inside.mean() < 1
    assert ((alpha > 0) & (alpha < 255)).any()


def test_the_matte_of_a_network_that_gives_labels_is_hard():
    card = a_card(3, head="labels")
    geometry = Geometry.fit(Size(20, 30), Size(20, 30), "stretch")
    given_labels = np.random.default_rng(0).integers(-1, 5, (1, 10, 15))
    case = OutputCase(card, geometry, Size(10, 15), given_labels)
    alpha = np.empty((20, 30), np.uint8)
    effects_of(case).matte(given_labels, alpha, look_of(case, SOFT, ("c1",)))
    assert np.array_equal(alpha, truth.matte(given_labels, card, geometry, {1}, 2.0))
    assert set(np.unique(alpha)) == {0, 255}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9))
def test_cutout_and_replace_are_exact_given_their_opacity(height: int, width: int, seed: int):
    case = scene(Size(height, width), seed=seed)
    frame = frame_of(case, seed)
    alpha = np.empty((height, width), np.uint8)
    effects_of(case).matte(case.logits, alpha, look_of(case, SOFT, ("c0",)))
    found = drawn(case, look_of(case, SOFT, ("c0",)), frame)
    assert np.array_equal(found, truth.cutout(frame, alpha))
    green = Effect("replace", background="#01fe80", edge_logits=2.0)
    found = drawn(case, look_of(case, green, ("c0",)), frame[:, ::-1][:, ::-1])
    assert np.array_equal(found, truth.compose(frame, alpha, np.array([0x80, 0xFE, 0x01])))


def test_replace_by_a_picture_of_another_size_covers_the_frame(tmp_path: Path):
    picture = np.zeros((50, 300, 3), np.uint8)
    picture[:, 100:200] = 200  # the middle third
    cv2.imwrite(str(tmp_path / "beach.png"), picture)
    case = scene(Size(40, 60))
    effect = Effect("replace", background=str(tmp_path / "beach.png"))
    rows = background_rows(effect.background, Size(40, 60))
    assert rows.shape == (40, 60, 3)
    assert np.all(rows == 200)
    frame = frame_of(case)
    alpha = np.empty((40, 60), np.uint8)
    effects_of(case).matte(case.logits, alpha, look_of(case, effect, ("c2",)))
    found = drawn(case, look_of(case, effect, ("c2",)), frame)
    assert np.array_equal(found, truth.compose(frame, alpha, rows))


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 90), st.integers(5, 90), st.sampled_from((0.01, 0.05, 0.1, 0.25)))
def test_blur_is_the_reference(height: int, width: int, share: float):
    case = scene(Size(height, width))
    frame = cv2.GaussianBlur(frame_of(case), (0, 0), 1.5)
    effect = Effect("blur", edge_logits=2.0, blur=share)
    alpha = np.empty((height, width), np.uint8)
    effects_of(case).matte(case.logits, alpha, look_of(case, effect, ("c1",)))
    found = drawn(case, look_of(case, effect, ("c1",)), frame)
    behind = truth.blurred_background(frame, alpha, share * height)
    expected = truth.compose(frame, alpha, np.floor(behind + 0.5))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_no_foreground_glows_into_the_blurred_background():
    """A white figure before black: the black stays black right up to the figure's edge."""
    size = Size(64, 96)
    logits = np.zeros((1, 2, 8, 12), np.float32)
    logits[0, 1] = -20
    logits[0, 1, 2:6, 4:8] = 20
    case = OutputCase(a_card(2), Geometry.fit(size, size, "stretch"), Size(8, 12), logits)
    alpha = np.empty((64, 96), np.uint8)
    effect = Effect("blur", blur=0.1)
    effects_of(case).matte(logits, alpha, look_of(case, effect, ("c1",)))
    frame = np.repeat(np.where(alpha >= 128, 255, 0).astype(np.uint8)[..., None], 3, 2)
    found = drawn(case, look_of(case, effect, ("c1",)), frame)
    outside = found[alpha == 0]
    # What shines through is the soft edge alone (weight 256 - opacity) and 1/256 of the inside.
    usual = cv2.GaussianBlur(frame, (0, 0), 6.4)[alpha == 0]
    assert outside.max() < 0.4 * usual.max()
    assert np.percentile(outside, 90) <= 0.2 * np.percentile(usual, 90)


@settings(max_examples=40, deadline=None)
@given(output_cases())
def test_entropy_is_the_reference(case: OutputCase):
    logits = np.nan_to_num(case.logits.astype(np.float32), nan=-3.0, posinf=3.0, neginf=-3.0)
    size = case.geometry.frame
    found = np.full((size.height, size.width), 77, np.float32)
    Tail(case.card, case.geometry, case.grid, workers=Workers(2)).entropy(logits, found)
    expected = truth.entropy(logits, case.card, case.geometry)
    assert np.abs(found - expected).max() < 2e-3


@pytest.mark.parametrize("classes", [None, ("c0", "c2")])
@pytest.mark.parametrize("kind", ["confidence", "entropy"])
def test_heat_is_the_reference(kind: str, classes: tuple[str, ...] | None):
    case = scene()
    frame = frame_of(case)
    found = drawn(case, look_of(case, Effect("heat", heat=kind), classes, opacity=0.7), frame)
    doubt = {
        "confidence": lambda: 1.0 - reference.confidence(case.logits, case.card, case.geometry),
        "entropy": lambda: truth.entropy(case.logits, case.card, case.geometry),
    }[kind]()
    expected = truth.heat(frame, doubt, 0.7)
    if classes is not None:
        labels = reference.labels(case.logits, case.card, case.geometry)
        inside = np.isin(labels, (0, 2))[..., None]
        expected = np.where(inside, expected, frame)
    # A neighbouring colour of the table where the doubt is rounded the other way.
    assert np.abs(found.astype(int) - expected).max() <= 5
    assert (found != expected).mean() < 0.2
    assert not np.array_equal(found, frame)


def test_heat_colours_grow_lighter():
    table = heat_table_rgb().astype(float) @ (0.299, 0.587, 0.114)
    assert np.all(np.diff(table) >= -0.5)
    assert table[-1] > 200 > 20 > table[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from((None, ("c1",), ("c0", "c300"))))
def test_outline_is_the_reference(height: int, width: int, classes: tuple[str, ...] | None):
    count = 4 if classes is None or "c300" not in classes else 301
    case = scene(Size(height, width), classes=count)
    frame = frame_of(case)
    found = drawn(case, look_of(case, Effect("outline"), classes), frame)
    labels = np.empty((height, width), np.uint16)
    Tail(case.card, case.geometry, case.grid).run(case.logits, labels=labels)
    palette_bgr = [color[::-1] for color in case.card.palette_rgb]
    chosen = None if classes is None else [case.card.classes.index(name) for name in classes]
    assert np.array_equal(found, truth.outline(frame, labels, palette_bgr, 1, chosen))


def test_nothing_is_allocated_in_steady_state():
    case = scene()
    pool = ArrayPool()
    workers = Workers(1)
    tail = Tail(case.card, case.geometry, case.grid, workers=workers)
    effects = Effects(case.card, case.geometry, case.grid, tail, pool=pool)
    frame = frame_of(case)
    for effect in (Effect("blur"), Effect("outline"), Effect("heat")):
        look = look_of(case, effect, ("c1",))
        out = np.empty((40, 60, 3), np.uint8)
        effects.run(look, case.logits, frame=frame, out=out)
        blocks = pool.free_blocks()
        for _ in range(3):
            effects.run(look, case.logits, frame=frame, out=out)
        assert pool.free_blocks() == blocks


def test_blocks_are_small_beside_the_blur():
    for sigma in (0.3, 2.0, 5.0, 20.0, 300.0):
        step = blur_steps(sigma)
        assert step in (1, 2, 4, 8, 16)
        assert step == 1 or sigma / step >= 2.5


def test_nonsense_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="no effect 'overlai'; did you mean 'overlay'"):
        Effect("overlai")
    with pytest.raises(UsageError, match="replace needs a background"):
        Effect("replace")
    with pytest.raises(UsageError, match="blur takes no background"):
        Effect("blur", background="#000000")
    with pytest.raises(UsageError, match="no heat 'entrop'"):
        Effect("heat", heat="entrop")
    with pytest.raises(UsageError, match="logits wide"):
        Effect("cutout", edge_logits=0.0)
    with pytest.raises(UsageError, match=r"at most 0\.25"):
        Effect("blur", blur=0.5)
    with pytest.raises(UsageError, match="no colour '#12345'"):
        Effect("replace", background="#12345").check_files()
    with pytest.raises(SourceError, match="cannot read the background") as caught:
        Effect("replace", background=str(tmp_path / "none.jpg")).check_files()
    assert "nothing of that name" in str(caught.value)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(SourceError, match="10 bytes that are no picture"):
        Effect("replace", background=str(tmp_path / "text.jpg")).check_files()
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(SourceError, match="0 bytes that are no picture"):
        Effect("replace", background=str(tmp_path / "empty.jpg")).check_files()
    card = a_card(3)
    with pytest.raises(UsageError, match="cutout needs the classes to keep"):
        Effect("cutout").check(card, None)
    with pytest.raises(UsageError, match="no heat of confidence: the network gives labels"):
        Effect("heat").check(a_card(3, head="labels"), None)


def test_without_names_the_foreground_is_all_but_the_background():
    card = ModelCard(("background", "person"), ((0, 0, 0), (255, 0, 0)), 16, 24)
    look = Look.of(card, Effect("cutout"), Size(4, 6))
    assert look.is_chosen.tolist() == [False, True, False]
