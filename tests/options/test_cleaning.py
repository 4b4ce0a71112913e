"""What a cleaning may be, and where it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from segedge.analyse.regions import RegionsAnalysis
from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.options.cleaning import Cleaning, parse_min_region
from segedge.options.frame import FrameOptions
from segedge.segment.segmenter import Segmenter
from segedge.video.sinks.json_lines import JsonLinesSink

CARD = ModelCard(("night", "dusk", "day"), ((0, 0, 0), (0, 0, 255), (0, 255, 0)), 48, 64, stride=8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_region": -1}, "number of pixels"),
        ({"min_region": {"car": -5}}, "'car' is a number of pixels"),
        ({"fill_holes": -1}, "number of pixels"),
        ({"connectivity": 6}, "no connectivity 6"),
        ({"majority": 4}, "odd side"),
        ({"majority": -3}, "odd side"),
        ({"majority": 33}, "odd side"),
    ],
)
def test_nonsense_is_refused(fields: dict, message: str):
    with pytest.raises(UsageError, match=message):
        Cleaning(**fields)


def test_an_even_window_is_mended():
    with pytest.raises(UsageError) as caught:
        Cleaning(majority=4)
    assert caught.value.fix == "--majority 5"


def test_the_command_line_s_sizes():
    assert parse_min_region("200") == 200
    assert parse_min_region("") == 0
    assert parse_min_region("car=50, road=1000") == {"car": 50, "road": 1000}
    for text in ("many", "car=x", "car=1,7", "=5"):
        with pytest.raises(UsageError, match="no region size"):
            parse_min_region(text)
    with pytest.raises(UsageError, match="number of pixels"):
        parse_min_region("-4")


def test_classes_that_are_not_named_keep_their_regions():
    assert Cleaning({"b": 7}).areas(("a", "b")) == (0, 7)
    assert Cleaning({"b": 1}).is_off
    assert hash(Cleaning({"b": 7})) == hash(Cleaning({"b": 7}))


def test_an_unknown_class_is_named_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'night'"):
        Segmenter(CARD, FakeBackend(CARD), options=FrameOptions(cleaning=Cleaning({"nigth": 9})))


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)


def test_everything_of_a_result_is_of_the_cleaned_map():
    with (
        Segmenter(CARD, FakeBackend(CARD), threads=1) as plain,
        Segmenter(
            CARD, FakeBackend(CARD), threads=1, options=FrameOptions(cleaning=Cleaning(400))
        ) as cleaning,
    ):
        raw, result = plain(image()), cleaning(image(), outputs=("labels", "overlay"))
        assert not np.array_equal(raw.labels, result.labels)
        counts = np.bincount(result.labels.ravel(), minlength=3)
        assert list(result.class_pixels.values()) == counts.tolist()
        np.testing.assert_array_equal(result.overlay(), cleaning(image()).overlay())
        assert min(region.area for region in result.regions()) >= 400
        assert sum(region.area for region in result.regions()) == 96 * 128
        (first, *_) = raw.regions(classes=("day",), min_area=5)
        assert first.class_name == "day"
        with pytest.raises(UsageError, match="did you mean 'day'"):
            raw.regions(classes=("dya",))
        with pytest.raises(UsageError, match="no connectivity 5"):
            raw.regions(connectivity=5)


def test_regions_go_into_json_lines(tmp_path: Path):
    frame = Frame(image())
    with Segmenter(
        CARD, FakeBackend(CARD), threads=1, options=FrameOptions(cleaning=Cleaning(50))
    ) as segmenter:
        result = segmenter(frame)
    sink = JsonLinesSink(tmp_path / "x.jsonl", analyses=[RegionsAnalysis(classes=("day",))])
    assert "labels" in sink.needs
    sink.write(frame, result)
    sink.close()
    found = json.loads((tmp_path / "x.jsonl").read_text())["regions"]["features"]
    mask = np.zeros(result.labels.shape, np.uint8)
    for feature in found:
        assert feature["properties"]["class"] == "day"
        geometry = feature["geometry"]
        several = geometry["type"] == "MultiPolygon"
        for polygon in geometry["coordinates"] if several else [geometry["coordinates"]]:
            # OpenCV's corners are pixel centres; halves lie between them.
            rings = [np.array(ring, np.float64) - 0.5 for ring in polygon]
            fixed = [np.rint(ring * 16).astype(np.int32) for ring in rings]
            cv2.fillPoly(mask, fixed, 1, shift=4)
    assert (mask == (result.labels == 2)).mean() > 0.8  # it paints the outlines, too
    assert mask[result.labels == 2].all()
