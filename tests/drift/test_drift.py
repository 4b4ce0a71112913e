"""How a camera compares with what the network knows: figures, words, and who is told."""

from __future__ import annotations

import itertools
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segedge.card.card import ModelCard
from segedge.card.familiar import FAMILIAR, Familiar
from segedge.card.geometry import Geometry, Size
from segedge.card.modelfile import with_metadata
from segedge.drift.glance import familiar_of, glance, thinned
from segedge.drift.watch import EVERY, FEWEST, DriftWatch, sentence
from segedge.frames.frame import Frame
from segedge.live.channel import Channel
from segedge.live.stats import prometheus
from segedge.reference import frame as reference
from tests.small_model import run_verb, write_model

RNG = np.random.default_rng(0)
CARD = ModelCard(("a", "b", "c"), ((0, 0, 0),) * 3, 32, 48, stride=4)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_figures_are_those_of_the_reference(layout: Any, activation: Any) -> None:
    classes = ("a", "b") if activation == "sigmoid" else ("a", "b", "c")
    card = CARD.replace(
        classes=classes, palette_rgb=((0, 0, 0),) * len(classes), logits_layout=layout,
        activation=activation, stride=1,
    )  # fmt: skip
    shape = (1, card.channels, 32, 48) if layout == "nchw" else (1, 32, 48, card.channels)
    logits = RNG.normal(0, 2, shape).astype(np.float32)
    image = RNG.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    found = glance(Size(32, 48), thinned(image), logits, card)
    size = Size(32, 48)
    wanted = reference.confidence(logits, card, Geometry.fit(size, size, "stretch"))
    labels = reference.argmax_grid(logits, card)
    assert found.confidence == pytest.approx(float(wanted.mean()), rel=1e-5)
    counts = np.bincount(labels.ravel(), minlength=len(card.classes)) / labels.size
    np.testing.assert_allclose(found.class_shares, counts)
    np.testing.assert_allclose(found.top, np.histogram(wanted, 10, (0, 1))[0] / wanted.size)
    np.testing.assert_allclose(found.mean_bgr, image[::16, ::16].mean(axis=(0, 1)))


def test_probabilities_are_taken_as_they_are() -> None:
    card = CARD.replace(probabilities=True)
    planes = RNG.dirichlet(np.ones(3), (8, 12)).transpose(2, 0, 1)[None].astype(np.float32)
    found = glance(Size(32, 48), thinned(np.zeros((32, 48, 3), np.uint8)), planes, card)
    assert found.confidence == pytest.approx(float(planes.max(axis=1).mean()), rel=1e-5)


class Answer:
    """A result whose logits prefer one class by so much."""

    def __init__(self, lead: float) -> None:
        self.logits = np.zeros((1, 3, 8, 12), np.float32)
        self.logits[:, 1] = lead


def known() -> Familiar:
    image = thinned(np.full((32, 48, 3), 100, np.uint8))
    glances = [glance(Size(32, 48), image, Answer(lead).logits, CARD) for lead in (3.0, 3.2)]
    return familiar_of(glances, "exported")


def watched(lead: float, frames: int, level: int = 100) -> DriftWatch:
    watch = DriftWatch(CARD, known(), clock=itertools.count().__next__)
    for index in range(frames):
        watch.look(Frame(np.full((32, 48, 3), level, np.uint8), index=index), Answer(lead))
    return watch


def test_too_few_frames_say_nothing() -> None:
    assert watched(3.0, EVERY * (FEWEST - 1)).sample() is None
    assert watched(3.0, EVERY * (FEWEST - 1) + 1).sample() is not None


def test_a_camera_that_differs_is_told() -> None:
    facts = watched(1.0, 64, level=40).sample()
    assert facts is not None
    assert facts["differs"]
    assert facts["confidence"] == pytest.approx(np.e / (np.e + 2), abs=1e-4)
    assert facts["brightness"] == -60
    said = sentence(facts, "segedge adapt m.onnx --images 0")
    assert said == (
        "confidence 0.58, when exported 0.92: this camera differs (60 levels darker); "
        "segedge adapt m.onnx --images 0"
    )


def test_a_camera_like_those_known_is_not_accused() -> None:
    facts = watched(3.1, 64).sample()
    assert facts is not None
    assert not facts["differs"]
    assert sentence(facts, "x") == "confidence 0.92, when exported 0.92"


def test_four_looks_a_second_are_enough() -> None:
    seconds = itertools.count(0.0, 0.01)  # a hundred eighth frames a second
    watch = DriftWatch(CARD, known(), clock=lambda: next(seconds))
    for index in range(200 * EVERY):
        watch.look(Frame(np.zeros((32, 48, 3), np.uint8), index=index), Answer(3.0))
    facts = watch.sample()
    assert facts is not None
    assert FEWEST + 6 <= facts["frames"] <= FEWEST + 8


def test_a_result_without_logits_says_nothing() -> None:
    watch = DriftWatch(CARD, known())
    for index in range(10 * EVERY):
        watch.look(Frame(np.zeros((32, 48, 3), np.uint8), index=index), object())
    assert watch.sample() is None


def test_gauges_for_fleets() -> None:
    channel = Channel("gate", 0, on_change=lambda: None, on_message=lambda *_: None)
    with closing(channel):
        channel.published = {"drift": watched(1.0, 64).sample()}
        text = prometheus([channel], 0, {})
    assert 'segedge_confidence{source="gate"} 0.576' in text
    assert 'segedge_confidence_alarm{source="gate"}' in text
    assert 'segedge_camera_differs{source="gate"} 1' in text


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Tells dark from bright, and was surer of it when it was exported."""
    pytest.importorskip("onnxruntime")
    path = write_model(tmp_path / "model.onnx")
    glances = Familiar("exported", 2, 0.999, 0.0, (0.0,) * 9 + (1.0,), (0.5, 0.5),
                       (100.0,) * 3, (50.0,) * 3)  # fmt: skip
    path.write_bytes(with_metadata(path.read_bytes(), FAMILIAR.metadata(glances)))
    return path


def test_run_tells_in_words_lines_and_json(model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    words = ("run", model, "test:64x48", "--frames", 100, "--policy", "lossless")
    words = (*words, "--backend", "onnxruntime")
    facts = json.loads(run_verb(*words, "-o", lines, "--json").stdout)
    assert facts["drift"]["differs"]
    assert facts["drift"]["familiar"] == 0.999
    assert len(lines.read_text().splitlines()) == 100
    said = " ".join(run_verb(*words).stdout.split())
    assert "when exported 1.00: this camera differs" in said
    assert "segedge adapt" in said


def test_stream_tells(model: Path) -> None:
    import segedge
    from segedge.video.memory import MemorySource

    frames = [RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(40)]
    with segedge.stream(model, MemorySource(frames), backend="onnxruntime") as stream:
        notes = [frame.drift for frame, _ in stream]
        told = stream.drift
    assert notes[0] is None
    assert notes[-1] is not None
    assert told is not None
    assert told["frames"] in (4, 5)  # the fifth came within a quarter of a second, or not
