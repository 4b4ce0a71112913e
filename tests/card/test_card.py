from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.card.card import CARD_KEY, ModelCard, Parity, Provenance
from segedge.card.dialects import (
    card_from_foreign_metadata,
    card_from_huggingface,
    foreign_metadata,
    image_size,
    read_huggingface,
)
from segedge.card.geometry import Size
from segedge.card.labels import label_set
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
        notes=draw(st.dictionaries(names, names, max_size=3)),
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
    read = card_from_foreign_metadata(metadata, input_size=size, channels=card.channels)
    assert read is not None
    assert (read.classes, read.color, read.fit) == (card.classes, card.color, card.fit)
    assert (read.activation, read.pad_value) == (card.activation, card.pad_value)
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
    card = card_from_foreign_metadata(metadata, input_size=Size(64, 96), channels=2)
    assert card is not None
    assert (card.classes, card.mean, card.std) == (("road", "sky"), (0, 0, 0), (1, 1, 1))
    assert (card.color, card.fit, card.pad_value) == ("rgb", "letterbox", 114)
    with pytest.raises(CardError, match="do not fit its output"):
        card_from_foreign_metadata(metadata, input_size=Size(64, 96), channels=5)
    for names_text in ("__import__('os').getcwd()", "{1: 'a'}", "3", "{0: 'a', 2: 'b'}", "{"):
        with pytest.raises(CardError):
            card_from_foreign_metadata({"names": names_text}, input_size=Size(1, 1), channels=1)
    assert image_size({"imgsz": "640"}) == Size(640, 640)
    for text in ("[0, 3]", "['a', 1]", "open('x')", "", "[1, 2, 3]"):
        assert image_size({"imgsz": text}) is None
    assert card_from_foreign_metadata({}, input_size=Size(1, 1), channels=1) is None


def test_model_api() -> None:
    metadata = {
        "model_info labels": "road traffic_light",
        "model_info mean_values": "123.675 116.28 103.53",
        "model_info scale_values": "58.395 57.12 57.375",
        "model_info reverse_input_channels": "True",
        "model_info resize_type": "fit_to_window_letterbox",
    }
    card = card_from_foreign_metadata(metadata, input_size=Size(64, 96), channels=2)
    assert card is not None
    assert card.classes == ("road", "traffic light")
    assert card.mean == pytest.approx((0.485, 0.456, 0.406))
    assert card.std == pytest.approx((0.229, 0.224, 0.225))
    assert (card.color, card.fit) == ("rgb", "letterbox")
    bare = {"model_info labels": "a b"}
    card = card_from_foreign_metadata(bare, input_size=Size(64, 96), channels=2)
    assert card is not None
    assert (card.color, card.fit, card.std[0]) == ("bgr", "stretch", pytest.approx(1 / 255))
    for change in ({"resize_type": "fill"}, {"mean_values": "a b c"}, {"scale_values": "1 2"}):
        odd = {**bare, **{f"model_info {key}": value for key, value in change.items()}}
        with pytest.raises(CardError):
            card_from_foreign_metadata(odd, input_size=Size(64, 96), channels=2)


def folder(tmp_path: Path, preprocessor: dict[str, Any] | None, **config: Any) -> Path:
    given = {"id2label": {"1": "sky", "0": "road"}, **config}
    (tmp_path / "config.json").write_text(json.dumps(given))
    if preprocessor is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return tmp_path


def test_huggingface(tmp_path: Path) -> None:
    said = {"size": {"height": 512, "width": 1024}, "resample": 2, "image_mean": [0.5, 0.4, 0.3]}
    card = card_from_huggingface(folder(tmp_path, said))
    assert (card.classes, card.input_size) == (("road", "sky"), Size(512, 1024))
    assert (card.resize, card.fit, card.mean) == ("antialias", "stretch", (0.5, 0.4, 0.3))


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
    with pytest.raises(CardError, match="no input height and width"):
        card_from_huggingface(folder(tmp_path, None))
    assert card_from_huggingface(tmp_path, input_size=Size(4, 4)).mean[0] == 0.485
    with pytest.raises(CardError, match="names no classes"):
        read_huggingface(folder(tmp_path, None, id2label={}))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CardError, match="not JSON"):
        read_huggingface(tmp_path)


def test_known_names_bring_their_palette(tmp_path: Path) -> None:
    labels = label_set("ade20k")
    given = {str(index): name for index, name in enumerate(labels.names)}
    card = card_from_huggingface(folder(tmp_path, {"size": 512}, id2label=given))
    assert (card.label_set, card.palette_rgb) == ("ade20k", labels.palette_rgb)
