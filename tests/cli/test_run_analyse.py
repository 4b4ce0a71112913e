"""`segedge run --road --zone --harvest` as a user types it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.small_model import run_verb, write_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("scene") / "small.onnx", has_card=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Dark below, bright above; a bright thing comes down from one image to the next."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        image = np.zeros((96, 128, 3), np.uint8)
        image[: 32 + 16 * number, 32:96] = 255
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def run(model: Path, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    return run_verb("run", model, "in", "--backend", "onnxruntime", *words, code=code)


ROAD = ("--road", "--drivable", "dark", "--obstacles", "bright")


def test_road_zones_ground_and_harvest(
    tmp_path: Path, model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ground.json").write_text("[[0.1, 0, -6.4], [0, -0.1, 9.6], [0, 0, 1]]")
    done = run(
        model, *ROAD, "--ground", "ground.json", "-o", "facts.jsonl", "-o", "out/",
        "--zone", "gate=0.4,0.55 0.6,0.55 0.6,0.7 0.4,0.7", "--zone-classes", "bright", "--draw",
        "--harvest", "hard", "--harvest-top", "1", "--harvest-distance", "0",
    )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "facts.jsonl").read_text().splitlines()]
    rows = [line["road"]["nearest_on_road"]["y"] for line in lines]
    assert rows == sorted(rows)
    for line in lines:
        nearest = line["road"]["nearest_on_road"]
        expected = np.hypot(0.1 * nearest["x"] - 6.4, 9.6 - 0.1 * nearest["y"])
        assert nearest["distance_m"] == pytest.approx(expected, abs=1e-3)
        assert line["road"]["limits"]["y"][0] == 95
    assert [line["zones"]["gate"]["event"] for line in lines] == [None, None, "enter"]
    overlay = cv2.imread(str(tmp_path / "out/2.jpg"))
    assert overlay is not None
    red = (overlay[:, :, 2].astype(int) - overlay[:, :, 1]) > 60
    assert red[40:72, 48:80].any(), "an occupied zone is red"
    assert "harvest: 3 frames" in done.stdout
    assert len(list((tmp_path / "hard/images").iterdir())) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--road", "-o", "a.jsonl"), "no class that is known to be drivable"),
        (("--road", "--drivable", "drak", "-o", "a.jsonl"), "did you mean 'dark'?"),
        ((*ROAD,), "need an output that tells of them"),
        ((*ROAD, "-o", "a.jsonl", "--bonnet", "-1"), "share of the height from 0 to below 1"),
        ((*ROAD, "-o", "a.jsonl", "--road-step", "-4"), "at least 1 pixel, found -4"),
        ((*ROAD, "-o", "a.jsonl", "--ground", "none.json"), "cannot read a homography"),
        (("--draw",), "--draw has nothing to draw"),
        (
            (*ROAD, "--draw", "-o", "a/", "--effect", "cutout", "--classes", "bright"),
            "--draw needs pictures without opacity",
        ),
        (("--drivable", "dark"), "add --road"),
        (("--zone", "a=0,0 1,1", "-o", "a.jsonl"), "has 2 points"),
        (("--zone", "a=500,0 600,0 600,9", "-o", "a.jsonl"), "covers no pixel of the image"),
        (
            ("--zone", "a=0,0 1,0 1,1", "--zone-classes", "brigth", "-o", "a.jsonl"),
            "did you mean 'bright'?",
        ),
        (("--harvest", "h", "--harvest-budget", "-5MB"), "no size '-5MB'"),
        (("--harvest", "in"), "holds files that no harvest made"),
        (("--harvest-top", "0.5"), "add --harvest FOLDER"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals(
    tmp_path: Path, model: Path, images: Path, words: tuple[str, ...], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert message in " ".join(run(model, *words, code=2).stderr.split())
