from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.card.card import CARD_KEY, RESIZE_RULES, ModelCard
from segedge.card.dialects import (
    class_names,
    foreign_metadata,
    image_size,
    with_foreign_preprocessing,
)
from segedge.card.geometry import Scaling, Size
from segedge.card.records import Parity, Provenance
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
        resize=draw(st.sampled_from(RESIZE_RULES)),
        scaling=draw(st.none() | st.builds(Scaling, shortest=st.integers(1, 999))),
        at_start=draw(st.booleans()),
        pad_mean=draw(st.booleans()),
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


def test_what_the_first_schema_says_is_written_in_it() -> None:
    assert json.loads(CARD.to_json())["schema"] == 1
    assert "scaling" not in json.loads(CARD.to_json())
    for change in ({"scaling": Scaling(shortest=256)}, {"at_start": True}, {"pad_mean": True}):
        newer = CARD.replace(**change)
        assert json.loads(newer.to_json())["schema"] == 2
        assert ModelCard.from_json(newer.to_json()) == newer


def test_fields_of_newer_versions_are_told(caplog: pytest.LogCaptureFixture) -> None:
    newer = {**json.loads(CARD.to_json()), "tint": 3}
    assert ModelCard.from_json(json.dumps(newer)) == CARD
    assert "leaves aside: tint" in caplog.text


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
