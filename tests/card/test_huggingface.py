"""What a processor's settings do to pixels, as fields of a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segedge.card.geometry import Scaling, Size
from segedge.card.huggingface import HuggingFaceFolder, read_huggingface, read_settings
from segedge.errors import CardError

BASE: dict[str, Any] = {"size": {"height": 512, "width": 1024}, "resample": 2}


def folder(tmp_path: Path, **config: Any) -> Path:
    (tmp_path / "config.json").write_text(
        json.dumps({"id2label": {"1": "sky", "0": "road"}, **config})
    )
    return tmp_path


def said(tmp_path: Path, settings: dict[str, Any], processor: str = "") -> HuggingFaceFolder:
    return read_huggingface(folder(tmp_path), settings, processor=processor)


def test_the_plain_case(tmp_path: Path) -> None:
    found = said(tmp_path, {**BASE, "image_mean": [0.5, 0.4, 0.3]})
    assert (found.classes, found.input_size) == (("road", "sky"), Size(512, 1024))
    assert (found.resize, found.fit, found.mean) == ("pillow-bilinear", "stretch", (0.5, 0.4, 0.3))
    assert (found.scaling, found.color, found.follows_frame) == (None, "rgb", "")


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"resample": 0}, {"resize": "nearest"}),
        ({"resample": 1}, {"resize": "pillow-lanczos"}),
        ({"resample": 3}, {"resize": "pillow-bicubic"}),
        ({"resample": 4}, {"resize": "pillow-box"}),
        ({"resample": 5}, {"resize": "pillow-hamming"}),
        ({"size": 224, "do_normalize": False}, {"mean": (0.0,) * 3, "input_size": Size(224, 224)}),
        (
            {"rescale_factor": 1 / 127.5, "image_mean": [1] * 3, "image_std": [1] * 3},
            {"mean": pytest.approx((0.5,) * 3), "std": pytest.approx((0.5,) * 3)},
        ),
        (
            {"rescale_factor": 1 / 127.5, "offset": True, "do_normalize": False},
            {"mean": pytest.approx((0.5,) * 3), "std": pytest.approx((0.5,) * 3)},
        ),
        (
            {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51] * 3},
            {"mean": pytest.approx((0.5,) * 3), "std": pytest.approx((0.2,) * 3)},
        ),
        ({"do_flip_channel_order": True}, {"color": "bgr"}),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224},
            {"fit": "crop", "scaling": Scaling(shortest=256), "input_size": Size(224, 224)},
        ),
        (
            {"do_center_crop": True, "crop_size": {"height": 8, "width": 9}},
            {"fit": "crop", "scaling": Scaling(512, 1024), "input_size": Size(8, 9)},
        ),
        (
            {"do_resize": False, "do_center_crop": True, "crop_size": 224},
            {"fit": "crop", "scaling": Scaling(), "input_size": Size(224, 224)},
        ),
        (
            {"size": {"shortest_edge": 256}},
            {"input_size": None, "follows_frame": "shorter side to 256"},
        ),
        (
            {"size": {"shortest_edge": 800, "longest_edge": 1333}, "do_pad": True,
             "pad_size": {"height": 1344, "width": 1344}},
            {"fit": "letterbox", "at_start": True, "pad_mean": True, "follows_frame": "",
             "input_size": Size(1344, 1344)},
        ),
        (
            {"keep_aspect_ratio": True, "ensure_multiple_of": 32},
            {"input_size": None, "follows_frame": "the aspect ratio is kept, in multiples of 32"},
        ),
        ({"size": {"height": 70, "width": 90}, "ensure_multiple_of": 32},
         {"input_size": Size(64, 96)}),
        ({"do_resize": False}, {"input_size": None, "fit": "stretch"}),
        ({"do_reduce_labels": True}, {"classes": ("road", "sky")}),
    ],
)  # fmt: skip
def test_settings_that_change_pixels(
    tmp_path: Path, settings: dict[str, Any], fields: dict[str, Any]
) -> None:
    found = said(tmp_path, {**BASE, **settings})
    assert {name: getattr(found, name) for name in fields} == fields


def test_a_class_of_processors_may_not_heed_a_setting(tmp_path: Path) -> None:
    crop = {**BASE, "do_center_crop": True, "crop_size": 224}
    for name in ("Segformer", "Mask2Former", "MaskFormer", "OneFormer", "Eomt"):
        assert said(tmp_path, crop, f"{name}ImageProcessor").fit == "stretch"
    grey = {**BASE, "image_mean": [0.5] * 3, "do_normalize": True}
    assert said(tmp_path, grey, "BeitImageProcessor").mean == (0.5,) * 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"do_split_image": True}, "do_split_image, which cuts images into windows"),
        ({"do_thumbnail": True}, "do_thumbnail"),
        ({"resample": 7}, "does not say how images are prepared"),
        ({"size": {"width": 3}}, "does not say"),
        ({"size": []}, "does not say"),
        ({"image_mean": [0.5]}, "does not say"),
        ({"rescale_factor": "x"}, "does not say"),
        ({"do_center_crop": True}, "does not say"),
    ],
)
def test_settings_that_no_card_can_say(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(CardError, match=words):
        said(tmp_path, {**BASE, **settings})


def test_files_that_are_missing_or_malformed(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"no preprocessor_config\.json"):
        read_settings(folder(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": 3}))
    assert read_settings(tmp_path) == {"resample": 3}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"size": 1}}))
    assert read_settings(tmp_path) == {"size": 1}
    with pytest.raises(CardError, match="names no classes"):
        read_huggingface(folder(tmp_path, id2label={}), BASE)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CardError, match="not JSON"):
        read_huggingface(tmp_path, BASE)
