"""Blend tables."""

from __future__ import annotations

import numpy as np
import pytest

from cpu.cases import a_card
from segedge.card.geometry import Geometry, Size
from segedge.cpu.overlay import Blend
from segedge.cpu.tail import Tail
from segedge.errors import UsageError
from segedge.reference import frame as reference


def test_a_class_filter_leaves_the_other_classes_as_they_are():
    size = Size(5, 40)
    card = a_card(3)
    frame = np.random.default_rng(0).integers(0, 256, (5, 40, 3), np.uint8)
    logits = np.random.default_rng(1).normal(size=(1, 3, 2, 6)).astype(np.float32)
    labels, overlay = np.empty((5, 40), np.uint8), np.empty((5, 40, 3), np.uint8)
    blend = Blend.of(card.palette_rgb, 0.7, classes=[1])
    Tail(card, Geometry.fit(size, size, "stretch"), Size(2, 6)).run(
        logits, labels=labels, overlay=overlay, frame=frame, blend=blend
    )
    assert np.array_equal(overlay[labels != 1], frame[labels != 1])
    palette_bgr = [color[::-1] for color in card.palette_rgb]
    painted = reference.overlay(frame, labels, palette_bgr, [0.0, 0.7, 0.0])
    assert np.abs(overlay.astype(int) - painted).max() <= 1


@pytest.mark.parametrize("opacity", [0.0, 1 / 3, 0.5, 0.999, 1.0])
def test_every_level_and_colour_is_within_one_of_the_reference(opacity: float):
    blend = Blend.of([(level, level, level) for level in range(256)], opacity)
    frame = np.arange(256)[:, None]
    total = frame * int(blend.weights[0]) + blend.colors[:256, 0].astype(int)[None]
    assert total.max() < 65536
    exact = frame * (1 - opacity) + np.arange(256)[None] * opacity
    assert np.abs((total >> 8) - exact).max() <= 1.0


def test_nonsense_is_refused():
    palette = a_card(3).palette_rgb
    with pytest.raises(UsageError, match="between 0 and 1"):
        Blend.of(palette, 1.5)
    with pytest.raises(UsageError, match="one opacity a class"):
        Blend.of(palette, [0.5, 0.5])
    with pytest.raises(UsageError, match="palette does not have"):
        Blend.of(palette, classes=[3])
