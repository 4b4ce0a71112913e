"""`segedge eval --every`: data sets whose images are the frames of a video."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

import segedge
from segedge.errors import UsageError
from segedge.measure.datasets.datasets import Dataset, open_dataset
from segedge.measure.datasets.sequence import by_name, listed, recorded
from segedge.measure.evaluate.evaluate import evaluate
from tests.small_model import run_verb

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CLASSES = ("dark", "bright")


def wall() -> np.ndarray:
    """Stones of 24 pixels, dark or bright, with a grain that motion can be seen by."""
    rng = np.random.default_rng(5)
    stones = np.kron(rng.integers(0, 2, (4, 12)), np.ones((24, 24), int)) * 180 + 30
    return np.clip(stones + rng.integers(-25, 25, stones.shape), 0, 255).astype(np.uint8)


def write_frames(folder: Path, names: list[str], *, step: int = 2) -> Path:
    """A camera that pans over the wall."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    seen = wall()
    for number, name in enumerate(names):
        grey = seen[:96, number * step : number * step + 128]
        cv2.imwrite(str(folder / f"images/{name}.png"), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
        cv2.imwrite(str(folder / f"labels/{name}.png"), (grey > 128).astype(np.uint8))
    return folder


def opened(folder: Path) -> Dataset:
    return open_dataset(folder, card_classes=CLASSES)


run = partial(run_verb, "eval")


def test_camvid_is_known_to_be_a_video(model: Path, tmp_path: Path) -> None:
    data = write_frames(tmp_path / "set", [f"0016E5_{n:05d}" for n in range(7959, 7977, 2)])
    common = (model, data, "--backend", "onnxruntime")
    done = run(*common, "--every", 4, "-o", tmp_path / "e.json", "--html", tmp_path / "e.html")
    facts = json.loads((tmp_path / "e.json").read_text())
    assert facts["images"] == 9
    assert (facts["motion"]["network_frames"], facts["motion"]["frames"]) == (3, 9)
    assert facts["motion"]["agreement"] > 0.9
    said = " ".join(done.stdout.split())
    assert "motion network 3 of 9 frames; carried labels agree " in said
    assert "network 3 of 9 frames" in (tmp_path / "e.html").read_text()
    every = json.loads(run(*common, "--json").stdout)
    assert every["motion"] is None
    assert facts["miou"] == pytest.approx(every["miou"], abs=0.05)
    assert facts["miou"] != every["miou"], "all frames count, also those that the network missed"


def test_the_worst_images_are_shown_as_they_were_counted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segedge.measure.evaluate import shots

    data = write_frames(tmp_path / "set", [f"0016E5_{n:05d}" for n in range(0, 10, 2)])
    drawn = {}
    whole = shots._shot

    def keep(score, image, truth, labels, palette, dataset):
        drawn[score.name] = (score.pixel_accuracy, float((labels == truth).mean()))
        return whole(score, image, truth, labels, palette, dataset)

    monkeypatch.setattr(shots, "_shot", keep)
    page = ("--html", tmp_path / "e.html", "--worst", 5)
    run(model, data, "--backend", "onnxruntime", "--every", 4, *page)
    assert len(drawn) == 5
    for counted, shown in drawn.values():
        assert shown == pytest.approx(counted)


def test_each_video_of_camvid_begins_anew(tmp_path: Path) -> None:
    names = ["0001TP_006690", "0001TP_006720", "0001TP_006750", "0016E5_00390", "0016E5_00392"]
    names += ["0016E5_00394", "0016E5_00400", "0016E5_00402", "Seq05VD_f00000"]
    found = recorded(opened(write_frames(tmp_path / "set", names)))
    times = [timed.seconds for timed in found]
    steps = np.diff(times).round(6).tolist()
    small = round(2 / 30, 6)
    assert steps == [1.0, 1.0, 61.0, small, small, 61.0, small, 61.0]
    assert [timed.sample.name for timed in found] == [f"images/{name}.png" for name in names]


def test_others_are_where_that_is_said(model: Path, tmp_path: Path) -> None:
    data = write_frames(tmp_path / "set", [f"{n}" for n in range(8, 13)])
    common = (model, data, "--backend", "onnxruntime", "--every", 2)
    said = " ".join(run(*common, code=2).stderr.split())
    assert "images are no video: nothing moves from one to the next found set, images/8.png" in said
    assert "fix --sequence, where they lie in the order in which they were taken" in said
    motion = json.loads(run(*common, "--sequence", "--json").stdout)["motion"]
    assert (motion["network_frames"], motion["frames"]) == (3, 5)
    assert [timed.seconds for timed in by_name(opened(data))] == [None] * 5
    few = json.loads(run(*common, "--sequence", "--limit", 3, "--json").stdout)["motion"]
    assert (few["network_frames"], few["frames"]) == (2, 3)


def test_a_list_gives_order_and_times(model: Path, tmp_path: Path) -> None:
    """A gap above --motion-gap begins anew."""
    data = write_frames(tmp_path / "set", ["d", "c", "b", "a", "e"])
    times = tmp_path / "times.txt"
    times.write_text("# image seconds\nimages/d.png 0.0\nc.png\t0.04\nb 0.08\n\na 9.5\ne 9.54\n")
    found = listed(opened(data), times)
    assert [(Path(t.sample.name).stem, t.seconds) for t in found] == [
        ("d", 0.0), ("c", 0.04), ("b", 0.08), ("a", 9.5), ("e", 9.54),
    ]  # fmt: skip
    words = (model, data, "--backend", "onnxruntime", "--every", 4, "--sequence", times, "--json")
    motion = json.loads(run(*words).stdout)["motion"]
    assert (motion["network_frames"], motion["frames"]) == (4, 5), "d, b; a, e"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 0\nb\n", "line 2: no image with its seconds found b fix frames/000123.png 4.92"),
        ("a 0\nb soon\n", "line 2: no image with its seconds found b soon"),
        ("a nan\n", "line 1: no image with its seconds"),
        ("a 0\nz 1\n", "no labelled image: z data set set, first images/a.png fix write paths"),
        ("a 0\nimages/a.png 1\n", "names images/a.png twice fix an image has one time"),
        ("a 0\n", "has no time for 1 of 2 labelled images first images/b.png fix give each"),
    ],
)
def test_a_wrong_list_is_one_message(model: Path, tmp_path: Path, text: str, message: str) -> None:
    data = write_frames(tmp_path / "set", ["a", "b"])
    (tmp_path / "times.txt").write_text(text)
    words = (model, data, "--every", 2, "--sequence", tmp_path / "times.txt")
    assert message in " ".join(run(*words, code=2).stderr.split())


def test_bad_input(model: Path, tmp_path: Path) -> None:
    data = write_frames(tmp_path / "set", ["a", "b"])
    cases: list[tuple[tuple[object, ...], str]] = [
        (("--sequence",), "--sequence without --every: each image stands alone"),
        (("--every", 0), "every frame or every so many, found 0"),
        (("--every", 99), "at most every 12th frame"),
        (("--every", 2, "--slide", "auto"), "sliding windows are not carried by motion"),
        (("--every", 2, "--sequence=absent.txt"), "the list absent.txt cannot be read"),
        (("--fuse", 0.5), "--fuse without --every"),
    ]
    for words, message in cases:
        assert message in run(model, data, *words, code=2).stderr


def test_a_segmenter_with_motion_needs_a_sequence(model: Path, tmp_path: Path) -> None:
    """Nothing is claimed of motion where images stand alone."""
    dataset = opened(write_frames(tmp_path / "set", ["a", "b", "c"]))
    motion = segedge.Motion(every=2)
    with segedge.load(model, backend="onnxruntime", motion=motion) as segmenter:
        assert evaluate(segmenter, dataset).motion is None
        found = evaluate(segmenter, dataset, sequence=by_name(dataset))
        assert found.motion is not None
        assert found.motion["network_frames"] == 2
    with pytest.raises(UsageError, match="images are no video"):
        recorded(dataset)
