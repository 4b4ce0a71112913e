"""Labels as people have them: what is read, what is refused, and what `eval` says of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from segedge.card.labels import label_set
from segedge.errors import CardError, SourceError, UsageError
from segedge.measure.datasets.datasets import Dataset, open_dataset
from segedge.measure.datasets.mapping import IGNORED, parse_mapping, value_option
from segedge.measure.evaluate.confusion import Confusion
from segedge.measure.evaluate.doubts import doubts
from tests.small_model import run_verb

CLASSES = ("dark", "bright")
VOC = label_set("voc")
run = partial(run_verb, "eval")


def halves(folder: Path, dark: int, bright: int, *, wrong: int = 0) -> Path:
    """Two images, dark to the left; the label files hold these values, some columns the other."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(2):
        image = np.zeros((48, 64, 3), np.uint8)
        image[:, 32:] = 255
        labels = np.full((48, 64), dark, np.uint8)
        labels[:, 32:] = bright
        labels[:, :wrong] = bright
        cv2.imwrite(str(folder / f"images/{number}.png"), image)
        cv2.imwrite(str(folder / f"labels/{number}.png"), labels)
    return folder


def opened(folder: Path, *classes: str, **words: Any) -> Dataset:
    return open_dataset(folder, card_classes=classes or CLASSES, **words)


def labels_of(folder: Path, *classes: str, **words: Any) -> list[list[list[int]]]:
    return [sample.labels().tolist() for sample in opened(folder, *classes, **words)]


def put(path: Path, image: Image.Image) -> Path:
    """One label file with a photo beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    photo = path.parent.parent / "images" / f"{path.stem}.jpg"
    photo.parent.mkdir(exist_ok=True)
    Image.new("RGB", image.size).save(photo)
    return path


def rgb(values: list[list[tuple[int, int, int]]]) -> Image.Image:
    return Image.fromarray(np.array(values, np.uint8))


GREY = np.array([[0, 1, 1], [1, 0, 255]], np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_indices_in_equal_channels(tmp_path: Path, mode: str, kind: str) -> None:
    """CVAT, Label Studio and cv2.imread + imwrite make three or four channels of one."""
    put(tmp_path / f"labels/a.{kind}", Image.fromarray(GREY).convert(mode))
    assert labels_of(tmp_path) == [[[0, 1, 1], [1, 0, IGNORED]]]


def test_indices_in_the_red_channel(tmp_path: Path) -> None:
    """CARLA keeps the class in red alone."""
    put(tmp_path / "labels/a.png", rgb([[(0, 0, 0), (1, 0, 0)]]))
    assert labels_of(tmp_path) == [[[0, 1]]]


def test_a_black_file_is_what_the_others_are(tmp_path: Path) -> None:
    black, indices = rgb([[(0, 0, 0)]]), rgb([[(1, 1, 1)]])
    put(tmp_path / "indices/labels/a.png", black)
    put(tmp_path / "indices/labels/b.png", indices)
    assert labels_of(tmp_path / "indices") == [[[0]], [[1]]]
    palette = ((10, 20, 30), (40, 50, 60))
    put(tmp_path / "colours/labels/a.png", black)
    put(tmp_path / "colours/labels/b.png", rgb([[palette[1]]]))
    assert labels_of(tmp_path / "colours", palette_rgb=palette) == [[[IGNORED]], [[1]]]


def test_colours_that_are_grey_stay_colours(tmp_path: Path) -> None:
    put(tmp_path / "labels/a.png", rgb([[(0, 0, 0), (200, 200, 200)]]))
    palette = ((0, 0, 0), (200, 200, 200))
    assert labels_of(tmp_path, palette_rgb=palette) == [[[0, 1]]]


def test_sixteen_bits_and_floats(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(400)]
    put(tmp_path / "labels/a.tif", Image.fromarray(np.array([[300.0, 0.0]], np.float32)))
    assert labels_of(tmp_path, *names) == [[[300, 0]]]
    for values, found in (([[0.5, 1]], "float32 values 0.5..1"), ([[-1, 1]], "values -1..1")):
        put(tmp_path / "labels/a.tif", Image.fromarray(np.array(values, np.float32)))
        with pytest.raises(SourceError, match="cannot read label file") as caught:
            labels_of(tmp_path)
        assert found in caught.value.facts["found"]
    colours = np.zeros((1, 1, 3), np.uint16)
    colours[0, 0] = (300, 7, 9)
    cv2.imwrite(str(tmp_path / "labels/a.tif"), colours)
    with pytest.raises(SourceError, match="cannot read label file"):
        labels_of(tmp_path)


def test_a_transparent_level_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path / "labels/a.png", Image.fromarray(GREY))
    Image.fromarray(GREY).save(tmp_path / "labels/a.png", transparency=0)
    assert labels_of(tmp_path) == [[[0, 1, 1], [1, 0, IGNORED]]]


def test_endings_in_any_case(tmp_path: Path) -> None:
    put(tmp_path / "labels/a.png", Image.fromarray(GREY)).rename(tmp_path / "labels/a.PNG")
    assert labels_of(tmp_path) == [[[0, 1, 1], [1, 0, IGNORED]]]
    put(tmp_path / "labels/a.tif", Image.fromarray(GREY * 0))
    assert labels_of(tmp_path)[0][0] == [0, 1, 1], "one of several is chosen as before"


def test_labels_as_jpeg_are_named(tmp_path: Path) -> None:
    put(tmp_path / "labels/a.jpg", Image.fromarray(GREY))
    with pytest.raises(SourceError, match="no labelled image") as caught:
        opened(tmp_path)
    assert "JPEG" in caught.value.facts["labels"]


def test_swapped_channels(tmp_path: Path) -> None:
    put(tmp_path / "labels/a.png", rgb([[(30, 20, 10), (60, 50, 40)]]))
    with pytest.raises(UsageError, match="colours that are no class") as caught:
        labels_of(tmp_path, palette_rgb=((10, 20, 30), (40, 50, 60)))
    assert "red and blue swapped" in caught.value.facts["but"]
    # Each class's colour is another's, so that no file alone looks wrong.
    palette = ((128, 0, 0), (0, 0, 128))
    put(tmp_path / "labels/a.png", rgb([[palette[1], palette[0]]]))
    data = opened(tmp_path, palette_rgb=palette)
    truth = next(iter(data)).labels()
    counted = Confusion(CLASSES)
    counted.add(truth, 1 - truth)
    (note,) = doubts(counted, data)
    assert "red and blue of the colour labels are probably swapped: 100.00 mIoU" in note


def test_a_cvat_export(tmp_path: Path) -> None:
    """The palette says what is meant: its order is not that of the lines."""
    lines = (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:9,0,0::\ncar:0,9,0::wheel,lamp\n"
    )
    (tmp_path / "labelmap.txt").write_bytes(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode())
    names = tmp_path / "ImageSets/Segmentation/default.txt"
    names.parent.mkdir(parents=True)
    names.write_text("a\nsub/b\n", encoding="utf-8")
    for folder in ("JPEGImages/sub", "SegmentationClass/sub"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.jpg", "sub/b.PNG"):
        Image.new("RGB", (3, 1)).save(tmp_path / "JPEGImages" / name)
    rgb([[(0, 0, 0), (9, 0, 0), (0, 9, 0)]]).save(tmp_path / "SegmentationClass/a.png")
    indexed = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    indexed.putpalette([0, 9, 0, 9, 0, 0, 0, 0, 0])
    indexed.save(tmp_path / "SegmentationClass/sub/b.png")
    data = opened(tmp_path, "car", "road")
    assert (data.layout, [sample.name for sample in data]) == (
        "cvat", ["JPEGImages/a.jpg", "JPEGImages/sub/b.PNG"]
    )  # fmt: skip
    assert labels_of(tmp_path, "car", "road") == [[[IGNORED, 1, 0]], [[0, 1, IGNORED]]]
    assert "no such class in the model: background" in data.notes[0]
    with pytest.raises(UsageError, match="other classes than the model"):
        opened(tmp_path, "car", "street")
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nroad:9,0,999::\n", "utf-8")
    with pytest.raises(UsageError, match="line 2: no class with its colour"):
        opened(tmp_path, "car", "road")


def test_masks_of_0_and_255(model: Path, tmp_path: Path) -> None:
    data = halves(tmp_path, 0, 255, wrong=8)
    done = run(model, data, "--json", "--no-boundary")
    facts = json.loads(done.stdout)
    assert facts["ignored"] == pytest.approx(0.625)
    assert facts["ignored_by"] == "label 255"
    (note,) = (note for note in facts["notes"] if "0 and 255 alone" in note)
    better = json.loads(run(model, data, "--json", "--no-boundary", "--map", "255=bright").stdout)
    assert f"{100 * better['miou']:.2f} mIoU with --map 255=bright" in note
    assert better["ignored"] == 0
    assert "62.50 of all pixels: label 255" in run(model, data).stdout


def test_nothing_counts(model: Path, tmp_path: Path) -> None:
    error = run(model, halves(tmp_path, 255, 255), code=2).stderr
    assert "nothing of" in error
    assert "all 6144 pixels are ignored: label 255" in error


def test_labels_that_count_from_one(model: Path, tmp_path: Path) -> None:
    """Half of them fit: the score is low and nothing is refused."""
    data = halves(tmp_path, 1, 255)
    done = json.loads(run(model, data, "--json", "--no-boundary").stdout)
    assert done["miou"] < 0.1
    (note,) = (note for note in done["notes"] if "too high by one" in note)
    assert "100.00 mIoU with --map 0=ignore,1..2=dark..bright" in note
    mended = run(model, data, "--json", "--no-boundary", "--map", "0=ignore,1..2=dark..bright")
    assert json.loads(mended.stdout)["miou"] == 1.0
    halves(data, 1, 2)
    assert "--map 0=ignore,1..2=dark..bright where 0 is void" in run(model, data, code=2).stderr


def test_the_two_classes_the_other_way_round(model: Path, tmp_path: Path) -> None:
    done = json.loads(run(model, halves(tmp_path, 1, 0), "--json", "--no-boundary").stdout)
    (note,) = (note for note in done["notes"] if "another order" in note)
    assert "100.00 mIoU with --map 0=bright,1=dark" in note
    assert done["miou"] == 0.0


def counted_as(meaning: Callable[[int], int], *, names: tuple[str, ...], path: Path) -> str:
    """The note where the network is right on 90 % and the files say ``meaning`` of each class."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, len(names), 4000)
    found = np.where(rng.random(4000) < 0.9, right, rng.integers(0, len(names), 4000))
    values = np.array([meaning(label) for label in right.tolist()])
    keep = (values >= 0) & (values < len(names))
    put(path / "labels/a.png", Image.fromarray(values[keep].astype(np.uint8)[None]))
    data = opened(path, *names)
    counted = Confusion(names)
    counted.add(next(iter(data)).labels()[0], found[keep].astype(np.uint8))
    return " ".join(doubts(counted, data))


def test_shifts_and_orders_of_many_classes(tmp_path: Path) -> None:
    names = label_set("cityscapes").names
    note = counted_as(lambda label: label + 1, names=names, path=tmp_path)
    assert "too high by one, with 0 for void" in note
    assert "79.87 mIoU with --map 0=ignore,1..19=road..bicycle" in note
    note = counted_as(lambda label: label - 1, names=names, path=tmp_path)
    assert "too low by one" in note
    assert "0..17=sidewalk..bicycle" in note
    assert counted_as(lambda label: label, names=names, path=tmp_path) == ""
    own = ("person", "car", "cat", *(n for n in VOC.names if n not in ("person", "car", "cat")))
    note = counted_as(lambda label: VOC.names.index(own[label]), names=own, path=tmp_path)
    assert "in the order of voc" in note


def test_a_map_of_values_says_all(tmp_path: Path) -> None:
    put(tmp_path / "labels/a.png", Image.fromarray(np.array([[0, 7, 9, 255]], np.uint8)))
    mapping = parse_mapping("0=ignore,7=dark,9=bright,255=ignore")
    assert labels_of(tmp_path, mapping=mapping) == [[[IGNORED, 0, 1, IGNORED]]]
    for text, message in (
        ("0..2=dark..bright", "no pair of equal lengths"),
        ("5=brigth", "did you mean 'bright'"),
        ("70000=dark", "no pair of equal lengths"),
    ):
        with pytest.raises(UsageError, match=message):
            opened(tmp_path, mapping=parse_mapping(text))
    names = ("sky", "traffic light", "car")
    option = value_option({0: IGNORED, 1: 0, 2: 1, 5: 2, 6: IGNORED, 7: IGNORED}, names)
    assert option == "--map '0=ignore,1..2=sky..traffic light,5=car,6..7=ignore'"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_classes_of_any_editor(tmp_path: Path, encoding: str, end: str) -> None:
    text = end.join(["# ours", "dark 1 2 3", "", "  bright 4 5 6 ", ""])
    put(tmp_path / "labels/a.png", rgb([[(4, 5, 6), (1, 2, 3)]]))
    (tmp_path / "classes.txt").write_bytes(text.encode(encoding))
    assert labels_of(tmp_path) == [[[1, 0]]]


def test_errors_in_text_files_have_a_line(tmp_path: Path) -> None:
    put(tmp_path / "labels/a.png", Image.fromarray(GREY))
    classes = tmp_path / "classes.txt"
    for data, message in (
        (b"dark\n\nbright 1 2 300\n", "line 3: no colour"),
        (b"dark\n# x\nbright\ndark\n", "line 4: class 'dark' is there twice"),
        (b"dark\nbr\xeaght\n", "line 2: byte 0xea is no UTF-8"),
    ):
        classes.write_bytes(data)
        with pytest.raises(CardError) as caught:
            opened(tmp_path)
        assert message in str(caught.value)
    classes.write_bytes(b"0: dark\n1: bright\n")
    assert opened(tmp_path).notes == ()
    pairs = tmp_path / "map.txt"
    pairs.write_bytes(b"\xef\xbb\xbfa=dark\r\n\r\nb\r\n")
    with pytest.raises(UsageError, match=r"map\.txt, line 3: 'b' is no pair"):
        parse_mapping(str(pairs))
