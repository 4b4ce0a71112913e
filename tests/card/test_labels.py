from __future__ import annotations

import pytest

from segedge.card.labels import (
    LabelSet,
    akin_set,
    built_in_sets,
    distinct_palette,
    known_set,
    label_set,
    named_set,
    things_only,
)
from segedge.errors import UsageError


@pytest.mark.parametrize(
    ("name", "count", "ignore"),
    [
        ("cityscapes", 19, 255),
        ("camvid", 11, 11),
        ("voc", 21, 255),
        ("ade20k", 150, 255),
        ("coco-panoptic", 133, 255),
    ],
)
def test_built_in_sets(name: str, count: int, ignore: int) -> None:
    labels = label_set(name.upper())
    assert (len(labels), labels.ignore_index, labels.name) == (count, ignore, name)
    assert len(set(labels.names)) == count
    assert all(text == text.strip() and text for text in labels.names)
    assert all(0 <= value <= 255 for color in labels.palette_rgb for value in color)
    assert known_set([text.title() for text in labels.names]) is labels


def test_well_known_colours() -> None:
    def colour(name: str, of: str) -> tuple[int, int, int]:
        labels = label_set(name)
        return labels.palette_rgb[labels.names.index(of)]

    assert colour("cityscapes", "road") == (128, 64, 128)
    assert colour("cityscapes", "bicycle") == (119, 11, 32)
    assert colour("camvid", "sky") == (128, 128, 128)
    assert colour("camvid", "bicyclist") == (0, 128, 192)
    assert colour("ade20k", "wall") == (120, 120, 120)
    assert colour("ade20k", "sky") == (6, 230, 230)
    assert colour("ade20k", "flag") == (92, 0, 255)
    assert label_set("voc").palette_rgb == ((0, 0, 0), *distinct_palette(20))


def test_raw_ids() -> None:
    cityscapes = label_set("cityscapes").label_of_id
    assert sorted(cityscapes) == list(range(34))
    assert sorted(v for v in cityscapes.values() if v != 255) == list(range(19))
    assert [cityscapes[i] for i in (7, 8, 11, 26, 33, 0, 29)] == [0, 1, 2, 13, 18, 255, 255]
    ade = label_set("ade20k").label_of_id
    assert (ade[0], ade[1], ade[150], len(ade)) == (255, 0, 149, 151)
    assert label_set("camvid").label_of_id == {}


def test_unknown_sets_get_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'cityscapes'") as caught:
        label_set("cityscape")
    assert "camvid" in caught.value.facts["known"]
    assert known_set(("road", "sky")) is None
    assert set(built_in_sets()) == {"cityscapes", "camvid", "voc", "ade20k", "coco-panoptic"}


def test_palettes_are_distinct_and_fit() -> None:
    for count in (1, 2, 255):
        assert len(set(distinct_palette(count))) == count
    assert len(distinct_palette(300)) == 300
    with pytest.raises(UsageError, match="2 names and 1 colours"):
        LabelSet("x", ("a", "b"), ((0, 0, 0),))


def test_names_in_other_words_have_the_standard_colours() -> None:
    ade = label_set("ade20k")
    other = [
        name + ", " + name[::-1] if label % 3 else f" {name} "
        for label, name in enumerate(ade.names)
    ]
    other[8] = "window "
    found = named_set(tuple(other))
    assert (found.name, found.palette_rgb) == ("ade20k", ade.palette_rgb)
    assert found.names == tuple(other)
    assert akin_set(other[:-1]) is None
    assert akin_set([*other[1:], other[0]]) is None


def test_things_are_told_from_stuff() -> None:
    coco, city = label_set("coco-panoptic"), label_set("cityscapes")
    assert [coco.names[label] for label in (0, 79, 80, 132)] == [
        "person", "toothbrush", "banner", "rug-merged",
    ]  # fmt: skip
    assert list(coco.things) == list(range(80))
    assert [city.names[label] for label in (city.things[0], city.things[-1])] == [
        "person", "bicycle",
    ]  # fmt: skip
    assert things_only(coco.names[:80]) == "coco-panoptic"
    assert things_only(city.names[11:19]) == "cityscapes"
    assert things_only(city.names) == things_only(coco.names) == things_only(["a"]) == ""
