"""Data sets in the layouts that they come in, and what is said where they do not fit."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segedge.card.labels import label_set
from segedge.errors import SourceError, UsageError
from segedge.measure.datasets.datasets import Dataset, open_dataset
from segedge.measure.datasets.layouts import LAYOUTS
from segedge.measure.datasets.mapping import IGNORED, class_table, parse_mapping
from tests.small_model import run_verb

CLASSES = ("dark", "bright")


def picture(path: Path, values: object, *, palette: list[int] | None = None) -> Path:
    """A PNG: grey, with a palette, or in colours (RGB)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(values, np.uint8)
    image = Image.fromarray(array)
    if palette is not None:
        image = Image.fromarray(array, mode="P")
        image.putpalette(palette)
    image.save(path)
    return path


def photo(path: Path, size: tuple[int, int] = (2, 3)) -> Path:
    return picture(path, np.full((*size, 3), 90))


def opened(folder: Path, *classes: str, **words: object) -> Dataset:
    return open_dataset(folder, card_classes=classes or CLASSES, **words)  # type: ignore[arg-type]


def test_plain(tmp_path: Path) -> None:
    for number in (10, 9):
        photo(tmp_path / f"images/{number}.jpg")
    picture(tmp_path / "labels/9.png", [[0, 1, 255], [1, 1, 0]])
    dataset = opened(tmp_path)
    assert (dataset.layout, len(dataset), dataset.missing) == ("plain", 1, ("images/10.jpg",))
    sample = next(iter(dataset))
    assert sample.name == "images/9.jpg"
    assert sample.image().shape == (2, 3, 3)
    assert sample.labels().tolist() == [[0, 1, IGNORED], [1, 1, 0]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_files_give_their_indices(tmp_path: Path, bits: int) -> None:
    photo(tmp_path / "images/a.jpg")
    image = Image.fromarray(np.array([[0, 1, 1], [1, 0, 0]], np.uint8), mode="P")
    image.putpalette([9, 9, 9, 200, 0, 0])
    (tmp_path / "labels").mkdir()
    image.save(tmp_path / "labels/a.png", bits=bits)
    assert next(iter(opened(tmp_path))).labels().tolist() == [[0, 1, 1], [1, 0, 0]]


def test_colour_labels(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.jpg", (1, 3))
    picture(tmp_path / "labels/a.png", [[[10, 20, 30], [40, 50, 60], [0, 0, 0]]])
    palette = ((10, 20, 30), (40, 50, 60))
    sample = next(iter(opened(tmp_path, palette_rgb=palette)))
    assert sample.labels().tolist() == [[0, 1, IGNORED]]
    picture(tmp_path / "labels/a.png", [[[10, 20, 30], [1, 2, 3], [1, 2, 3]]])
    with pytest.raises(UsageError, match="colours that are no class") as caught:
        sample.labels()
    assert "2 pixels, first RGB (1, 2, 3)" in str(caught.value.facts)


def test_cityscapes_ids(tmp_path: Path) -> None:
    names = label_set("cityscapes").names
    photo(tmp_path / "leftImg8bit/val/ulm/ulm_1_leftImg8bit.png", (1, 4))
    # 7 road, 26 car, 3 out of region of interest
    picture(tmp_path / "gtFine/val/ulm/ulm_1_gtFine_labelIds.png", [[7, 26, 3, 255]])
    dataset = opened(tmp_path, *names)
    road, car = names.index("road"), names.index("car")
    assert dataset.layout == "cityscapes"
    assert next(iter(dataset)).labels().tolist() == [[road, car, IGNORED, IGNORED]]


def test_camvid_voc_and_ade20k(tmp_path: Path) -> None:
    camvid = tmp_path / "camvid"
    photo(camvid / "val/a.png", (1, 3))
    picture(camvid / "valannot/a.png", [[0, 8, 11]])
    assert next(iter(opened(camvid, *label_set("camvid").names))).labels().tolist() == [
        [0, 8, IGNORED]
    ]
    voc = tmp_path / "voc"
    photo(voc / "JPEGImages/b.jpg", (1, 3))
    photo(voc / "JPEGImages/not_listed.jpg")
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/val.txt").write_text("b\n", encoding="utf-8")
    palette = [value for rgb in label_set("voc").palette_rgb for value in rgb]
    picture(voc / "SegmentationClass/b.png", [[0, 15, 255]], palette=palette)
    dataset = opened(voc, *label_set("voc").names)
    assert [s.labels().tolist() for s in dataset] == [[[0, 15, IGNORED]]]
    ade = tmp_path / "ade"
    photo(ade / "images/validation/c.jpg", (1, 3))
    picture(ade / "annotations/validation/c.png", [[0, 1, 150]])
    dataset = opened(ade, *label_set("ade20k").names)
    assert [s.labels().tolist() for s in dataset] == [[[IGNORED, 0, 149]]]


def test_values_outside_the_classes(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.jpg")
    picture(tmp_path / "labels/a.png", [[0, 1, 2], [7, 7, 1]])
    with pytest.raises(UsageError, match="labels outside the classes") as caught:
        next(iter(opened(tmp_path))).labels()
    assert caught.value.facts == {"found": "2, 7", "expected": "0..1 or 255 (ignored)"}


def test_other_classes_need_a_map(tmp_path: Path) -> None:
    photo(tmp_path / "val/a.png", (1, 2))
    picture(tmp_path / "valannot/a.png", [[3, 8]])
    with pytest.raises(UsageError, match="other classes than the model") as caught:
        opened(tmp_path, "street", "vehicle")
    assert "street, vehicle" in caught.value.facts["model"]
    assert "bicyclist" in caught.value.facts["data set"]
    mapping = parse_mapping("road=street,car=vehicle")
    dataset = opened(tmp_path, "street", "vehicle", mapping=mapping)
    assert next(iter(dataset)).labels().tolist() == [[0, 1]]
    assert "not counted, no such class in the model: sky" in dataset.notes[0]
    with pytest.raises(UsageError, match="did you mean 'road'"):
        opened(tmp_path, "street", mapping={"raod": "street"})
    with pytest.raises(UsageError, match="did you mean 'street'"):
        opened(tmp_path, "street", mapping={"road": "stret"})


def test_a_plain_data_set_may_name_its_classes(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png", (1, 3))
    picture(tmp_path / "labels/a.png", [[0, 1, 255]])
    (tmp_path / "classes.txt").write_text("car\nroad 128 64 128\n", encoding="utf-8")
    dataset = opened(tmp_path, "road", "car")
    assert next(iter(dataset)).labels().tolist() == [[1, 0, IGNORED]]
    assert dataset.notes == ()
    with pytest.raises(UsageError, match="other classes than the model") as caught:
        opened(tmp_path, "road", "tree")
    assert caught.value.facts["unmatched"] == "1: car"
    (tmp_path / "classes.txt").unlink()
    dataset = opened(tmp_path, "road", "tree")
    assert next(iter(dataset)).labels().tolist() == [[0, 1, IGNORED]]
    assert "names no classes" in dataset.notes[0]


def test_mapping_files(tmp_path: Path) -> None:
    file = tmp_path / "map.txt"
    file.write_text("# theirs = ours\nroad = street\nsky=ignore # not ours\n", encoding="utf-8")
    assert parse_mapping(str(file)) == {"road": "street", "sky": "ignore"}
    table, notes = class_table(("road", "sky"), ("street",), parse_mapping(str(file)))
    assert table.tolist() == [0, IGNORED]
    assert notes == ()
    for text, message in (
        ("road=", "is no pair"),
        ("a=b,a=c", "mapped twice"),
        ("absent", "neither pairs nor a readable file"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_mapping(text)


def test_many_pairs_are_no_file_name() -> None:
    names = [f"a rather long name of class {number}" for number in range(40)]
    pairs = ",".join(f"{name}=ignore" for name in names)
    assert list(parse_mapping(pairs)) == names
    with pytest.raises(UsageError, match="mapped twice"):
        parse_mapping(f"{pairs},{names[0]}=sky")


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no data set at"):
        opened(tmp_path / "absent")
    with pytest.raises(SourceError, match="looks like no data set") as caught:
        opened(tmp_path)
    assert caught.value.facts["found"] == "an empty folder"
    with pytest.raises(UsageError, match="did you mean 'camvid'"):
        opened(tmp_path, layout="camvit")
    photo(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    with pytest.raises(SourceError, match="no labelled image") as caught:
        opened(tmp_path)
    assert caught.value.facts["found"] == "1 images, none with a label file"


def test_unreadable_labels(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.jpg")
    label = picture(tmp_path / "labels/a.png", np.zeros((2, 3)))
    label.write_bytes(label.read_bytes()[:40])
    with pytest.raises(SourceError, match="cannot read label file"):
        next(iter(opened(tmp_path))).labels()
    assert cv2.imread(str(tmp_path / "images/a.jpg")) is not None


def test_an_ignored_value_may_be_that_of_a_class(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.jpg")
    picture(tmp_path / "labels/a.png", [[0, 1, 255], [1, 1, 0]])
    sample = next(iter(opened(tmp_path, ignore_index=0)))
    assert sample.labels().tolist() == [[IGNORED, 1, IGNORED], [1, 1, IGNORED]]
    sample = next(iter(opened(tmp_path, ignore_index=-100)))
    assert sample.labels().tolist() == [[0, 1, IGNORED], [1, 1, 0]]


def test_255_is_a_class_where_there_are_so_many(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.jpg", (1, 2))
    picture(tmp_path / "labels/a.png", [[0, 255]])
    names = [f"class {number}" for number in range(256)]
    assert next(iter(opened(tmp_path, *names))).labels().tolist() == [[0, 255]]


def test_every_layout_is_told_where_users_look() -> None:
    page = (Path(__file__).parents[3] / "docs/evaluate.md").read_text("utf-8")
    told = (open_dataset.__doc__ or "", run_verb("eval", "--help").stdout, page)
    assert all(re.search(rf"\b{name}\b", text) for name in LAYOUTS for text in told)
