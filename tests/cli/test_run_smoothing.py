"""`segedge run --smooth --flicker` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from test_run import Run, model, scene, segedge, write_clip

__all__ = ["model", "segedge"]  # fixtures


def test_flicker_is_told_with_and_without(segedge: Run, model: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", frames=6)
    common = ("run", model, "in.mp4", "--backend", "onnxruntime")
    smoothed = " ".join(segedge(*common, "--smooth", "-o", "out.mp4").stdout.split())
    assert "of still points change label a frame" in smoothed
    assert "; smoothed 0.00 % and 0.00 %" in smoothed
    assert "smoothing" in smoothed
    counted = json.loads(segedge(*common, "--flicker", "--json").stdout)["flicker"]
    assert counted["still"] > 0
    assert counted["before"] == counted["after"]
    assert set(counted["shares"]) == {"changed_before", "changed", "returned_before", "returned"}
    uncounted = json.loads(segedge(*common, "--smooth", "0.5", "--no-flicker", "--json").stdout)
    assert "flicker" not in uncounted


def test_images_are_smoothed_only_on_demand(segedge: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"in/{number}.png"), scene())
    common = ("run", model, "in", "--backend", "onnxruntime", "--smooth")
    assert "images are not smoothed: --smooth-images" in segedge(*common).stdout
    report = json.loads(segedge(*common, "--smooth-images", "--json").stdout)
    assert report["flicker"]["still"] > 0
    assert "not smoothed" not in json.dumps(report)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--smooth", "1.5"), "at least 0 and below 1 found 1.5 fix --smooth 0.9"),
        (("--smooth", "-0.5"), "at least 0 and below 1 found -0.5"),
        (("--smooth=often",), "no strength 'often'"),
        (("--smooth-images",), "--smooth-images without smoothing fix add --smooth"),
        (("--smooth", "--slide", "auto"), "neither smoothing nor flicker goes with sliding"),
    ],
)
def test_nonsense_is_one_message(
    segedge: Run, model: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), scene())
    done = segedge("run", model, "in.png", "--backend", "onnxruntime", *words, code=2)
    assert message in " ".join(done.stderr.split())
