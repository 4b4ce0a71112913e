"""`segedge run --effect` as a user types it, on a small real ONNX model."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from test_run import Run, model, scene, segedge, write_clip

__all__ = ["model", "segedge"]  # fixtures


@pytest.fixture
def still(tmp_path: Path) -> np.ndarray:
    cv2.imwrite(str(tmp_path / "in.png"), scene())
    return scene()


def test_cutout_replace_and_blur(
    segedge: Run, model: Path, tmp_path: Path, still: np.ndarray
) -> None:
    common = ("run", model, "in.png", "--classes", "red,bright", "-o")
    segedge(*common, "cut.png", "--effect", "cutout")
    cut = cv2.imread(str(tmp_path / "cut.png"), cv2.IMREAD_UNCHANGED)
    assert cut[48, 64].tolist() == [0, 0, 255, 255]
    assert cut[48, 5].tolist() == [0, 0, 0, 0]
    segedge(*common, "new.png", "--effect", "replace", "--background", "#102030")
    new = cv2.imread(str(tmp_path / "new.png"))
    assert new[48, 5].tolist() == [0x30, 0x20, 0x10]
    assert new[48, 64].tolist() == [0, 0, 255]
    done = segedge(*common, "soft.png", "--effect", "blur", "--blur", "0.1", "--edge", "2")
    soft = cv2.imread(str(tmp_path / "soft.png"))
    assert soft[48, 64].tolist() == [0, 0, 255]
    assert "effect" in done.stdout


def test_a_cutout_video_and_a_contact_sheet(segedge: Run, model: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", frames=6)
    done = segedge(
        "run", model, "in.mp4", "-o", "out.webm", "-o", "contact:sheet.jpg", "--effect", "cutout",
        "--classes", "red", "--json",
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert "sheet.jpg" in json.dumps(report)
    assert (tmp_path / "out.webm").stat().st_size > 200
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape[2] == 3


def test_panoptic_masks_beside_an_effect(segedge: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "frames" / f"{name}.png"), scene())
    segedge(
        "run", model, "frames", "-o", "masks/", "-o", "contact:all.png", "--masks", "panoptic",
        "--effect", "outline",
    )  # fmt: skip
    document = json.loads((tmp_path / "masks" / "panoptic.json").read_text())
    assert [one["file_name"] for one in document["annotations"]] == ["a.png", "b.png"]
    assert [c["name"] for c in document["categories"]] == ["dark", "red", "bright"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--effect", "cutuot"), "no effect 'cutuot'; did you mean 'cutout'"),
        (("--effect", "blur", "--classes", "rad"), "no class 'rad'; did you mean 'red'"),
        (("--effect", "blur"), "blur needs the classes to keep: none here is called background"),
        (("--effect", "replace"), "replace needs a background"),
        (("--effect", "replace", "--background", "x.jpg"), "cannot read the background x.jpg"),
        (("--effect", "heat", "--heat", "entropi"), "no heat 'entropi'; did you mean 'entropy'"),
        (("--effect", "blur", "--background", "#000000"), "the effect blur takes no background"),
        (("--effect", "cutout", "--classes", "red", "-o", "a.mp4"), "a.mp4 holds no opacity"),
        (("--effect", "cutout", "--classes", "red", "-o", "a.jpg"), "a.jpg holds no opacity"),
        (("--effect", "cutout", "--classes", "red", "--legend"), "no legend on cutout"),
        (("-o", "contact:a.mp4"), "a contact sheet is one picture, not a.mp4"),
        (("-o", "contact:a.png", "--masks", "panoptic"), "needs an output that can hold masks"),
    ],
)
def test_nonsense_is_one_message(
    segedge: Run, model: Path, tmp_path: Path, still: np.ndarray, words: tuple, message: str
) -> None:
    done = segedge("run", model, "in.png", *words, code=2)
    assert message in done.stderr
    assert done.stdout == "" or "wrote" not in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"in.png"}
