"""`segedge quantize` as a user types it."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest

from segedge.card.card import ModelCard
from segedge.card.modelfile import read_metadata
from tests.small_model import run_verb

run = partial(run_verb, "quantize")
SHARED = Path(__file__).parents[4] / "shared"


def test_plain(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    done = run(model, "--calibrate", images, "-o", out)
    for text in (
        "calibrated  on 4 images, SHA-256 ",
        "int8        5 of 6 convolutions, ",
        "method      percentile",
        "% of the labels as in float",
        "warning     calibrated on 4 images",
        f"wrote       {out}",
        f"next        segedge eval {out} DATASET",
    ):
        assert text in done.stdout
    assert done.stderr == ""


def test_json_and_the_usual_name(model: Path, images: Path, tmp_path: Path) -> None:
    own = tmp_path / "net.onnx"
    own.write_bytes(model.read_bytes())
    facts = json.loads(run(own, "--calibrate", images, "--method", "mse", "--json").stdout)
    assert facts["out"] == str(tmp_path / "net.int8.onnx")
    assert facts["method"] == "mse"
    assert list(facts["tried"])[:2] == ["mse", "mse, equalised"]
    assert facts["taken"] in facts["tried"]
    assert [layer["int8"] for layer in facts["layers"]].count(True) == 5


def test_a_judge_that_computes_is_timed(model: Path, images: Path, tmp_path: Path) -> None:
    words = (model, "--calibrate", images, "-o", tmp_path / "q.onnx", "--max-drop", 60)
    judge = ("--judge", "onnxruntime", "--method", "mse", "--no-correct")
    lines = run(*words, *judge).stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("method "))
    assert lines[at].endswith("drop  network ms")
    assert re.fullmatch(r"float32 +all +0\.0 % +100\.00 +\d+\.\d", lines[at + 1])
    assert re.fullmatch(
        r"mse +0 +\d+\.\d % +\d+\.\d\d +\+\d+\.\d\d +\d+\.\d  written", lines[at + 2]
    )
    facts = json.loads(run(*words, *judge, "--json").stdout)
    assert facts["float_network_ms"] > 0
    assert facts["points"][0]["network_ms"] > 0


def test_guarded(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    done = run(model, "--calibrate", images, "-o", out, "--max-drop", 60, "--method", "minmax")
    for text in (
        "judge       agreement on 4 calibration images, simulated",
        "float layers  work in int8  agreement",
        "float32",
        "written",
        "float       logits (Conv): the classifier",
        "of agreement lost, within 60",
    ):
        assert text in done.stdout
    assert "minmax" not in done.stderr  # nobody asked for a proof of what is merely tried
    card = ModelCard.from_metadata(read_metadata(out))
    assert card is not None
    assert card.quantization is not None
    assert card.quantization.max_drop == 60


def test_a_bound_that_does_not_hold_ends_with_one(
    model: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8.onnx"
    done = run(
        model, "--calibrate", images, "-o", out, "--max-drop", 0, "--method", "minmax", code=1
    )
    assert "the bound does not hold" in done.stdout
    assert "the best is written" in " ".join(done.stdout.split())
    assert out.exists()
    words = (model, "--calibrate", images, "-o", out, "--max-drop", 0, "--method", "minmax")
    assert json.loads(run(*words, "--json", code=1).stdout)["holds"] is False


def test_errors_are_one_message(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    done = run(model, "--calibrate", tmp_path, "-o", out, code=2)
    assert "no images" in done.stderr
    done = run(model, "--calibrate", images, "-o", out, "--method", "entropie", code=2)
    assert "did you mean 'entropy'" in done.stderr
    done = run(model, "--calibrate", images, "-o", model, code=2)
    assert "is the source itself" in done.stderr
    assert not out.exists()


def test_inspect_tells(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    run(model, "--calibrate", images, "-o", out, "--method", "minmax")
    said = run_verb("inspect", out).stdout
    assert "int8        5 layers" in said
    assert "minmax on 4 images" in said


def test_the_trained_network(tmp_path: Path) -> None:
    """Fast-SCNN on CamVid: over 97 % of the labels stay with 99 % of the work in int8."""
    if not (SHARED / "models/fastscnn_camvid.onnx").exists():
        pytest.skip("no ../shared/models")
    net, out = tmp_path / "camvid.onnx", tmp_path / "int8.onnx"
    run_verb("export", SHARED / "models/fastscnn_camvid.onnx", "--classes", "camvid", "-o", net)
    words = (net, "--calibrate", SHARED / "data/camvid/train/images", "-o", out, "--images", 8)
    facts = json.loads(run(*words, "--method", "percentile", "--json").stdout)
    assert facts["agreement"] > 0.97
    assert facts["mac_share"] > 0.99
    assert facts["size_bytes"] < 0.35 * facts["source_bytes"]
