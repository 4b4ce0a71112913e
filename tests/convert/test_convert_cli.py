"""The command: its lines, its JSON, its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from convert_nets import Tiny, up

from segedge.cli.main import run

FACTORY = f"{Path(__file__).parent / 'convert_nets.py'}:plain"


def words(*arguments: object) -> list[str]:
    return ["export", *map(str, arguments)]


def test_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {f"module.{k}": v for k, v in Tiny(up, 11, seed=4).state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 483}, tmp_path / "best.pth")
    options = ["--arg", "classes=11", "--checkpoint", tmp_path / "best.pth", "--size", "64x96"]
    target = tmp_path / "new" / "best.onnx"
    with pytest.raises(SystemExit) as caught:
        run(words(FACTORY, *options, "--classes", "camvid", "-o", target))
    assert caught.value.code in (0, None)
    text = " ".join(capsys.readouterr().out.split())
    for line in (
        "checkpoint best.pth: 6 of 6 tensors, prefix 'module.' removed, from key 'state_dict' "
        "(epoch 483)",
        "network in 1x3x64x96 RGB float32, logits 11 at stride 8, half-pixel",
        "classes 11 camvid: sky, building",
        "tail cut: Resize x8 bilinear (0.3 MB of logits a frame no longer made)",
        "parity 4 noise images: pixels equal 100.000 %",
        f"wrote {target} ",
        f"next segedge run {target} video.mp4 -o out.mp4",
    ):
        assert line in text
    with pytest.raises(SystemExit):
        run(words(target, "-o", tmp_path / "again.onnx", "--json"))
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == str(tmp_path / "again.onnx")
    assert report["card"]["parity"]["agreement"] == 1.0
    assert report["card"]["label_set"] == "camvid"
    assert report["tail"]["cut"] is False


_MANY = ",".join(f"class number {number}" for number in range(100))
"""Longer than the name of a file may be."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FACTORY, "--size", "big"), "'big' is no size"),
        ((FACTORY, "--size", "64", "--dynamic", "bath"), "did you mean 'batch'"),
        ((FACTORY, "--size", "64", "--mean", "a"), "--mean 'a' is not three numbers"),
        ((FACTORY, "--size", "64", "--arg", "19"), "no NAME=VALUE"),
        ((FACTORY, "--size", "64", "--checkpoint", "no.pth"), "no.pth does not exist"),
        (("nothing.onnx", "-o", "x.onnx"), "nothing.onnx does not exist"),
        (("n" * 300 + ".onnx", "-o", "x.onnx"), "File name too long"),
        ((FACTORY, "--size", "64", "--checkpoint", "n" * 300), "File name too long"),
        ((FACTORY, "--size", "64", "--classes", _MANY), "names     100: class number 0,"),
    ],
)
def test_errors_end_with_code_2_and_no_file(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(words(*arguments))
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""
    assert "Traceback" not in output.err
    assert list(tmp_path.iterdir()) == []
