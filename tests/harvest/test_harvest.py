"""Harvests: what is kept, within what, and that nothing breaks it."""

from __future__ import annotations

import errno
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from harvests import CARD, CLASSES, picture, run, segmenter, size_of

from segedge.errors import SinkError, UsageError
from segedge.frames.frame import Frame
from segedge.harvest.cvat import label_map, unique_palette
from segedge.harvest.harvest import Harvest
from segedge.harvest.options import HarvestOptions
from segedge.measure.datasets.datasets import open_dataset
from segedge.measure.datasets.label_file import read_label_file
from segedge.video.sinks.png import encode_labels_png

EVERY = {"top_share": 1.0}
"""Every frame is a candidate."""


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def check(folder: Path) -> list[str]:
    """Manifest, images, labels and archive tell of the same frames; their names."""
    names = [line["name"] for line in lines(folder)]
    assert len(set(names)) == len(names)
    assert {p.stem for p in (folder / "images").iterdir()} == set(names)
    assert {p.stem for p in (folder / "labels").iterdir()} == set(names)
    if names:
        with zipfile.ZipFile(folder / "cvat.zip") as archive:
            listed = archive.read("ImageSets/Segmentation/default.txt").decode().split()
            assert listed == names
            for name in names:
                data = archive.read(f"SegmentationClass/{name}.png")
                assert data == (folder / f"labels/{name}.png").read_bytes()
    return names


def test_frames_with_their_labels(tmp_path: Path) -> None:
    images = [picture(seed) for seed in range(8)]
    run(tmp_path / "h", images, fps=None, **EVERY)
    assert len(check(tmp_path / "h")) == 8
    with segmenter() as network:
        for line in lines(tmp_path / "h"):
            image, name = images[line["index"]], line["name"]
            assert name.startswith(f"shot-{line['index']}-")
            labels = read_label_file(tmp_path / f"h/labels/{name}.png")
            assert np.array_equal(labels, network(image).labels)
            kept = cv2.imread(str(tmp_path / f"h/images/{name}.jpg"))
            assert kept is not None
            assert cv2.PSNR(kept, image) > 30
            assert line["score"] == pytest.approx(sum(line["bits"].values()), abs=0.01)
            assert (line["height"], line["width"], line["model"]) == (48, 64, "small")


def test_it_is_a_data_set(tmp_path: Path) -> None:
    run(tmp_path / "h", [picture(seed) for seed in range(4)], **EVERY)
    data = open_dataset(tmp_path / "h", card_classes=CLASSES)
    assert len(data) == 4
    assert all(sample.image().shape[:2] == sample.labels().shape for sample in data)


def test_the_unusual_ones_are_kept(tmp_path: Path) -> None:
    """One picture in forty is another: a class that no other frame has."""
    usual = [np.full((48, 64, 3), 20, np.uint8) for _ in range(40)]
    for number, image in enumerate(usual):
        image[: 6 + number % 5, :8] = 40  # never quite the same
    usual[30] = picture(1)
    harvest = run(tmp_path / "h", usual)
    kept = {line["index"]: line for line in lines(tmp_path / "h")}
    assert 30 in kept
    assert "rare" in kept[30]["reasons"]
    assert max(kept.values(), key=lambda line: line["score"])["index"] == 30
    assert "frames of this run were kept" in harvest.notes()[0]


def test_no_picture_twice(tmp_path: Path) -> None:
    images = [picture(seed % 3) for seed in range(12)]
    run(tmp_path / "h", images, **EVERY)
    assert len(check(tmp_path / "h")) == 3
    run(tmp_path / "h", images, **EVERY)
    assert len(check(tmp_path / "h")) == 3


@pytest.mark.parametrize("budget", [55_000, 80_000, 200_000])
def test_the_budget_is_kept_and_the_best_stay(tmp_path: Path, budget: int) -> None:
    images = [picture(seed) for seed in range(40)]
    run(tmp_path / "h", images, budget_bytes=budget, **EVERY)
    names = check(tmp_path / "h")
    assert size_of(tmp_path / "h") <= budget
    run(tmp_path / "all", images, **EVERY)
    assert len(check(tmp_path / "all")) == 40
    assert 0 < len(names) < 40 or budget == 200_000
    run(tmp_path / "h", [picture(seed) for seed in range(40, 60)], budget_bytes=budget, **EVERY)
    check(tmp_path / "h")
    assert size_of(tmp_path / "h") <= budget


def test_a_smaller_budget_drops_the_least(tmp_path: Path) -> None:
    run(tmp_path / "h", [picture(seed) for seed in range(20)], **EVERY)
    before = {line["name"]: line["score"] for line in lines(tmp_path / "h")}
    harvest = run(tmp_path / "h", [], budget_bytes=55_000)
    after = check(tmp_path / "h")
    assert 0 < len(after) < 20
    assert min(before[n] for n in after) >= max(s for n, s in before.items() if n not in after)
    assert any("the budget is smaller" in note for note in harvest.notes())


def test_a_budget_for_nothing(tmp_path: Path) -> None:
    harvest = run(tmp_path / "h", [picture(1)], budget_bytes=1000, **EVERY)
    assert check(tmp_path / "h") == []
    assert any("too small for a single frame" in note for note in harvest.notes())


def test_what_was_learned_goes_on(tmp_path: Path) -> None:
    images = [picture(seed) for seed in range(6)]
    run(tmp_path / "h", images, **EVERY)
    state = json.loads((tmp_path / "h/harvest.json").read_text())
    assert state["frames"] == 6
    assert sum(state["class_shares"].values()) == pytest.approx(1)
    run(tmp_path / "h", images, **EVERY)
    again = json.loads((tmp_path / "h/harvest.json").read_text())
    assert again["frames"] == 12
    assert again["class_shares"] == pytest.approx(state["class_shares"], abs=1e-6)
    assert sum(again["usual"]["margin"].values()) == 12


def test_what_a_killed_run_leaves_is_swept_up(tmp_path: Path) -> None:
    run(tmp_path / "h", [picture(seed) for seed in range(4)], **EVERY)
    names = check(tmp_path / "h")
    images = tmp_path / "h/images"
    (images / f"clip-000099-{'0' * 16}.jpg").write_bytes(b"no line tells of it")
    (images / f".clip-000098-{'0' * 16}.part-0123abcd.jpg").write_bytes(b"half")
    (images / "mine.jpg").write_bytes(b"the user's own")
    manifest = tmp_path / "h/manifest.jsonl"
    manifest.write_text(manifest.read_text() + '{"name": "torn')
    run(tmp_path / "h", [])
    assert {p.stem for p in images.iterdir()} == {*names, "mine"}
    assert [line["name"] for line in lines(tmp_path / "h")] == names


def test_frames_that_the_user_took_away(tmp_path: Path) -> None:
    run(tmp_path / "h", [picture(seed) for seed in range(4)], **EVERY)
    gone = check(tmp_path / "h")[0]
    (tmp_path / f"h/images/{gone}.jpg").unlink()
    harvest = run(tmp_path / "h", [])
    assert gone not in [line["name"] for line in lines(tmp_path / "h")]
    assert any("1 kept frames are no longer" in note for note in harvest.notes())


def test_edited_labels_are_never_dropped(tmp_path: Path) -> None:
    run(tmp_path / "h", [picture(seed) for seed in range(10)], **EVERY)
    worst = min(lines(tmp_path / "h"), key=lambda line: line["score"])["name"]
    path = tmp_path / f"h/labels/{worst}.png"
    corrected = encode_labels_png(np.ones((48, 64), np.uint8), palette_rgb=CARD.palette_rgb)
    path.write_bytes(corrected)
    harvest = run(tmp_path / "h", [picture(s) for s in range(10, 30)], budget_bytes=60_000, **EVERY)
    assert path.read_bytes() == corrected
    assert any("edited" in note for note in harvest.notes())


@pytest.mark.parametrize("where", ["images", "labels", "manifest", "close"])
def test_a_full_disk_ends_the_harvest_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    run(tmp_path / "h", [picture(1)], **EVERY)
    kept = check(tmp_path / "h")
    full = OSError(errno.ENOSPC, "No space left on device")
    write, opened = Path.write_bytes, Path.open

    def refuse(path: Path, data: bytes) -> int:
        if path.parent.name == where or (where == "close" and path.parent.name == "h"):
            raise full
        return write(path, data)

    def refuse_append(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if where == "manifest" and mode == "a":
            raise full
        return opened(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "open", refuse_append)
    harvest = run(tmp_path / "h", [picture(2), picture(3)], **EVERY)
    ended = [note for note in harvest.notes() if "ended early" in note]
    assert len(ended) == 1
    assert "the disk is full" in ended[0]
    monkeypatch.undo()
    run(tmp_path / "h", [])
    names = check(tmp_path / "h")
    assert kept[0] in names
    assert len(names) == (3 if where == "close" else 1)


def test_refused_folders(tmp_path: Path) -> None:
    (tmp_path / "set/images").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"holds files that no harvest made[\s\S]*images"):
        run(tmp_path / "set", [])
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        run(tmp_path / "file/h", [])
    run(tmp_path / "h", [])
    other = CARD.replace(classes=("a", "b", "c"))
    with pytest.raises(UsageError, match="harvested with other classes"):
        Harvest(HarvestOptions(tmp_path / "h"), other)
    (tmp_path / "h/harvest.json").write_text('{"schema": 99, "classes": []}')
    with pytest.raises(UsageError, match="of a newer segedge"):
        run(tmp_path / "h", [])
    (tmp_path / "h/harvest.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        run(tmp_path / "h", [])


def test_one_run_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    harvest = Harvest(HarvestOptions(tmp_path / "h"), CARD)
    with pytest.raises(SinkError, match="another run harvests into"):
        Harvest(HarvestOptions(tmp_path / "h"), CARD)
    harvest.close()
    run(tmp_path / "h", [])


def test_several_sources_share_a_folder(tmp_path: Path) -> None:
    harvest = Harvest(HarvestOptions(tmp_path / "h", top_share=1.0), CARD)
    sinks = [harvest.sink("a"), harvest.sink("b")]
    assert [len(sink.paths) for sink in sinks] == [1, 0]
    with segmenter() as network:
        for seed, sink in enumerate(sinks * 3):
            frame = Frame(picture(seed % 4), seed, "x.mp4", seed / 10)
            result = network(frame)
            sink.write(frame, result)
    sinks[0].close(error=True)
    assert not (tmp_path / "h/cvat.zip").exists()
    sinks[1].close()
    sinks[1].close()
    names = check(tmp_path / "h")
    assert len(names) == 4
    assert {name[0] for name in names} == {"a", "b"}
    with pytest.raises(UsageError, match="harvest of a is closed"):
        sinks[0].write(frame, result)
    assert [len(sink.notes) for sink in sinks] == [1, 0]


def test_the_label_map_of_cvat(tmp_path: Path) -> None:
    run(tmp_path / "h", [picture(1)], **EVERY)
    expected = (
        "# label:color_rgb:parts:actions\ndark:0,0,80::\nmiddle:255,0,0::\nbright:255,255,0::\n"
    )
    assert (tmp_path / "h/labelmap.txt").read_text() == expected
    with zipfile.ZipFile(tmp_path / "h/cvat.zip") as archive:
        assert archive.read("labelmap.txt").decode() == expected
        assert archive.testzip() is None
    assert label_map(["a:b"], [(1, 2, 3)]).splitlines()[1] == "a b:1,2,3::"


def test_cvat_tells_classes_by_colour() -> None:
    palette = ((0, 0, 0), (128, 0, 0), (0, 0, 0), (128, 0, 0), (7, 7, 7))
    unique = unique_palette(palette)
    assert len(set(unique)) == 5
    assert unique[:2] == palette[:2]
    assert unique[4] == palette[4]


def test_more_classes_than_a_palette_holds(tmp_path: Path) -> None:
    from segedge.backends.fake import FakeBackend
    from segedge.segment.segmenter import Segmenter

    names = tuple(f"c{n}" for n in range(300))
    card = CARD.replace(
        classes=names, palette_rgb=tuple((n % 256, n // 256, 9) for n in range(300))
    )
    harvest = Harvest(HarvestOptions(tmp_path / "h", top_share=1.0), card)
    sink = harvest.sink("wide")
    with Segmenter(card, FakeBackend(card)) as network:
        frame = Frame(picture(1), 0, "a.mp4", 0.0)
        result = network(frame)
        sink.write(frame, result)
    sink.close()
    (label,) = (tmp_path / "h/labels").iterdir()
    assert np.array_equal(read_label_file(label), result.labels)
    assert not (tmp_path / "h/cvat.zip").exists()
