from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.card.card import CARD_KEY, ModelCard, Parity, Provenance
from segedge.card.dialects import (
    class_names,
    foreign_metadata,
    image_size,
    read_huggingface,
    with_foreign_preprocessing,
)
from segedge.card.geometry import Size
from segedge.errors import CardError

CARD = ModelCard(("road", "sky"), ((1, 2, 3), (4, 5, 6)), 64, 96)

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
colors = st.tuples(*[st.integers(0, 255)] * 3)
numbers = st.floats(0.001, 300, allow_nan=False)
triples = st.tuples(numbers, numbers, numbers)
parities = st.builds(
    Parity,
    images=st.integers(0, 100),
    kind=st.sampled_from(["images", "noise"]),
    agreement=st.floats(0, 1),
    ambiguous=st.floats(0, 1),
    max_logit_error=st.none() | st.floats(0, 10),
    sizes=st.lists(names, max_size=3).map(tuple),
)


@st.composite
def cards(draw: st.DrawFn) -> ModelCard:
    sigmoid = draw(st.booleans())
    count = 2 if sigmoid else draw(st.integers(2, 30))
    return ModelCard(
        classes=tuple(draw(st.lists(names, min_size=count, max_size=count))),
        palette_rgb=tuple(draw(st.lists(colors, min_size=count, max_size=count))),
        input_height=draw(st.integers(1, 4096)),
        input_width=draw(st.integers(1, 4096)),
        label_set=draw(names | st.just("")),
        ignore_index=draw(st.none() | st.integers(0, 255)),
        color=draw(st.sampled_from(["rgb", "bgr"])),
        mean=draw(triples),
        std=draw(triples),
        fit=draw(st.sampled_from(["stretch", "letterbox", "crop"])),
        pad_value=draw(st.integers(0, 255)),
        resize=draw(st.sampled_from(["bilinear", "antialias", "nearest", "area"])),
        head=draw(st.sampled_from(["logits", "labels"])),
        logits_layout=draw(st.sampled_from(["nchw", "nhwc"])),
        stride=draw(st.integers(1, 64)),
        align_corners=draw(st.booleans()),
        activation="sigmoid" if sigmoid else "softmax",
        dynamic=draw(st.sampled_from([(), ("batch",), ("batch", "size")])),
        provenance=Provenance(source=draw(names)),
        parity=draw(st.none() | parities),
        probabilities=draw(st.booleans()),
        pillow_resample=draw(st.none() | st.integers(0, 5)),
        padded_at_end=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(cards())
def test_a_card_survives_the_file(card: ModelCard) -> None:
    assert ModelCard.from_metadata(card.to_metadata()) == card
    assert "\n" not in card.to_json()


@settings(max_examples=40, deadline=None)
@given(cards())
def test_a_card_survives_the_dialects(card: ModelCard) -> None:
    metadata = foreign_metadata(card)
    size = image_size(metadata)
    assert size == card.input_size
    assert class_names(metadata) == card.classes
    read = with_foreign_preprocessing(CARD, metadata)
    assert (read.color, read.fit, read.pad_value) == (card.color, card.fit, card.pad_value)
    assert read.mean == pytest.approx(card.mean, rel=1e-7)
    assert read.std == pytest.approx(card.std, rel=1e-7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": "road"}, "'road' is no tuple"),
        ({"mean": [1, 2]}, "is no tuple"),
        ({"input_height": "64"}, "'64' is no int"),
        ({"stride": True}, "'True' is no int"),
        ({"head": "masks"}, "'masks' is no"),
        ({"palette_rgb": [[1, 2], [3, 4, 5]]}, "is no tuple"),
        ({"palette_rgb": [[1, 2, 3]]}, "differ in length"),
        ({"classes": []}, "at least one class"),
        ({"std": [0, 1, 1]}, "std not zero"),
        ({"activation": "sigmoid", "classes": ["a"], "palette_rgb": [[0, 0, 0]]}, "two classes"),
        ({"input_width": 0}, "must be positive"),
        ({"schema": 99}, "pip install --upgrade segedge"),
        ({"schema": "1"}, "schema"),
        ({"parity": {"images": 1}}, "lacks fields"),
    ],
)
def test_malformed_cards(change: dict[str, Any], words: str) -> None:
    fields = {**json.loads(CARD.to_json()), **change}
    with pytest.raises(CardError) as caught:
        ModelCard.from_json(json.dumps(fields))
    assert words in str(caught.value)


def test_texts_that_are_no_card() -> None:
    for text, words in [("{", "not JSON"), ("[1]", "no JSON object"), ('{"schema":1}', "lacks")]:
        with pytest.raises(CardError, match=words):
            ModelCard.from_metadata({CARD_KEY: text})
    assert ModelCard.from_metadata({"names": "{}"}) is None
    later = {**json.loads(CARD.to_json()), "temperature": 1.5}
    assert ModelCard.from_json(json.dumps(later)) == CARD


def test_ultralytics() -> None:
    metadata = {"names": "{0: 'road', 1: 'sky'}", "imgsz": "[64, 96]", "stride": "32"}
    card = with_foreign_preprocessing(CARD, metadata)
    assert class_names(metadata) == ("road", "sky")
    assert (card.mean, card.std) == ((0, 0, 0), (1, 1, 1))
    assert (card.color, card.fit, card.pad_value) == ("rgb", "letterbox", 114)
    for names_text in ("__import__('os').getcwd()", "{1: 'a'}", "3", "{0: 'a', 2: 'b'}", "{"):
        with pytest.raises(CardError):
            class_names({"names": names_text})
    assert image_size({"imgsz": "640"}) == Size(640, 640)
    for text in ("[0, 3]", "['a', 1]", "open('x')", "", "[1, 2, 3]"):
        assert image_size({"imgsz": text}) is None
    assert class_names({}) is None
    assert with_foreign_preprocessing(CARD, {}) is CARD


def test_model_api() -> None:
    metadata = {
        "model_info labels": "road traffic_light",
        "model_info mean_values": "123.675 116.28 103.53",
        "model_info scale_values": "58.395 57.12 57.375",
        "model_info reverse_input_channels": "True",
        "model_info resize_type": "fit_to_window_letterbox",
    }
    assert class_names(metadata) == ("road", "traffic light")
    card = with_foreign_preprocessing(CARD, metadata)
    assert card.mean == pytest.approx((0.485, 0.456, 0.406))
    assert card.std == pytest.approx((0.229, 0.224, 0.225))
    assert (card.color, card.fit) == ("rgb", "letterbox")
    bare = {"model_info labels": "a b"}
    card = with_foreign_preprocessing(CARD, bare)
    assert (card.color, card.fit, card.std[0]) == ("bgr", "stretch", pytest.approx(1 / 255))
    for change in ({"resize_type": "fill"}, {"mean_values": "a b c"}, {"scale_values": "1 2"}):
        odd = {**bare, **{f"model_info {key}": value for key, value in change.items()}}
        with pytest.raises(CardError):
            with_foreign_preprocessing(CARD, odd)


def folder(tmp_path: Path, preprocessor: dict[str, Any] | None, **config: Any) -> Path:
    given = {"id2label": {"1": "sky", "0": "road"}, **config}
    (tmp_path / "config.json").write_text(json.dumps(given))
    if preprocessor is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return tmp_path


def test_huggingface(tmp_path: Path) -> None:
    said = {"size": {"height": 512, "width": 1024}, "resample": 2, "image_mean": [0.5, 0.4, 0.3]}
    found = read_huggingface(folder(tmp_path, said))
    assert (found.classes, found.input_size) == (("road", "sky"), Size(512, 1024))
    assert (found.resize, found.fit, found.mean) == ("antialias", "stretch", (0.5, 0.4, 0.3))
    assert found.pillow_resample is None
    sharper = read_huggingface(folder(tmp_path, {**said, "resample": 3}))
    assert (sharper.resize, sharper.pillow_resample) == ("antialias", 3)


@pytest.mark.parametrize(
    ("preprocessor", "mean", "std", "resize", "size"),
    [
        ({"size": 224, "do_normalize": False}, 0.0, 1.0, "antialias", Size(224, 224)),
        (
            {"size": 8, "rescale_factor": 1 / 127.5, "image_mean": [1] * 3, "image_std": [1] * 3},
            0.5,
            0.5,
            "antialias",
            Size(8, 8),
        ),
        (
            {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51] * 3, "resample": 0},
            0.5,
            0.2,
            "nearest",
            None,
        ),
        ({"size": {"shortest_edge": 224}, "crop_size": 192, "do_center_crop": True,
          "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, 0.5, 0.5, "antialias", Size(192, 192)),
    ],
)  # fmt: skip
def test_huggingface_forms(
    tmp_path: Path, preprocessor: dict[str, Any], mean: float, std: float, resize: str, size: Any
) -> None:
    said = read_huggingface(folder(tmp_path, preprocessor))
    assert said.mean == pytest.approx((mean,) * 3)
    assert said.std == pytest.approx((std,) * 3)
    assert (said.resize, said.input_size) == (resize, size)


def test_huggingface_without_size_or_names(tmp_path: Path) -> None:
    found = read_huggingface(folder(tmp_path, None))
    assert (found.input_size, found.mean[0]) == (None, 0.485)
    with pytest.raises(CardError, match="names no classes"):
        read_huggingface(folder(tmp_path, None, id2label={}))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CardError, match="not JSON"):
        read_huggingface(tmp_path)


def test_facts_that_files_said_in_notes() -> None:
    """Files before 0.1.0 carried words where a field stands now."""
    notes = {"logits": "probabilities", "resample": "Pillow code 3", "precision": "int8"}
    old = json.loads(CARD.to_json())
    for name in ("probabilities", "pillow_resample", "padded_at_end"):
        del old[name]
    card = ModelCard.from_json(json.dumps({**old, "notes": notes}))
    assert card == CARD.replace(probabilities=True, pillow_resample=3)
    padded = {**old, "notes": {"resize_type": "was padded right and below"}}
    assert ModelCard.from_json(json.dumps(padded)) == CARD.replace(padded_at_end=True)
    assert ModelCard.from_json(json.dumps({**old, "notes": {}})) == CARD
