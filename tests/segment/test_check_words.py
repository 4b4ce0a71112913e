"""What the command line says of a check: `run`, `doctor`, `prove`, `compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import segedge
from segedge.backends.openvino import openvino_abilities
from tests.segment import planted, proved
from tests.small_model import run_verb, write_model

pytestmark = pytest.mark.usefixtures("own_cache")


def test_run_says_what_was_checked(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), proved.picture())
    path = proved.exported("any_size")
    done = run_verb("run", path, tmp_path / "a.png", "-o", tmp_path / "out.png")
    assert "checked     as exported: 100 % of clear labels, logits within" in done.stdout
    assert "openvino refused: not as exported" in done.stdout
    named = run_verb("run", path, tmp_path / "a.png", "--backend", "openvino")
    assert "checked     not as exported: " in named.stdout
    assert "not as exported: " in named.stderr
    strict = run_verb("run", path, tmp_path / "a.png", "--backend", "openvino", "--strict", code=2)
    assert "does not compute what was exported" in strict.stderr
    quiet = run_verb("run", path, tmp_path / "a.png", "--backend", "openvino", "--no-check")
    assert "exported" not in quiet.stdout + quiet.stderr
    facts = json.loads(run_verb("run", path, tmp_path / "a.png", "--json").stdout)
    assert facts["checked"]["passed"] is True
    assert facts["checked"]["labels"] == 1.0
    both = run_verb("run", path, tmp_path / "a.png", "--strict", "--no-check", code=2)
    assert "--strict needs the check" in both.stderr


def test_run_says_what_bf16_changes_and_what_does_not(tmp_path: Path) -> None:
    import cv2

    if "BF16" not in openvino_abilities():
        pytest.skip("OpenVINO does not compute in bf16 on this CPU")
    cv2.imwrite(str(tmp_path / "a.png"), proved.picture())
    words = ("run", proved.exported("varied"), tmp_path / "a.png", "-o", tmp_path / "out.png")
    told = " ".join(run_verb(*words).stdout.split())
    assert "as exported, within bf16: " in told
    assert " changed by bf16), logits within " in told
    assert "(OpenVINO, bf16); openvino:f32 keeps the exported labels" in told
    exact = run_verb(*words, "--backend", "openvino:f32").stdout
    assert "as exported: 100 % of clear labels" in exact
    assert "keeps the exported labels" not in exact


def test_doctor_checks_every_backend() -> None:
    path = proved.exported("any_size")
    lines = run_verb("doctor", path).stdout.splitlines()
    (said,) = [line for line in lines if line.startswith("openvino ")]
    assert "not as exported: " in said
    (said,) = [line for line in lines if line.startswith("onnxruntime ")]
    assert "as exported: 100 % of clear labels" in said
    facts = json.loads(run_verb("doctor", path, "--json").stdout)
    assert facts["checks"]["onnxruntime"]["passed"]
    assert not facts["checks"]["openvino"]["passed"]


def test_doctor_finds_a_broken_file(tmp_path: Path) -> None:
    path = planted.faulty(proved.exported("plain"), planted.LEAST_BIT, tmp_path / "m.onnx")
    done = run_verb("doctor", path, code=1)
    assert "the weights are not those that were exported" in done.stdout


def test_a_file_is_proved_by_what_it_computes(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    assert "none: segedge prove" in run_verb("inspect", path).stdout
    done = run_verb("prove", path)
    assert "ONNX Runtime" in done.stdout
    assert path.stat().st_size < 70_000
    inspected = run_verb("inspect", path).stdout
    assert "2 pictures at 48x64, f32" in inspected
    assert "optimisations off" in inspected
    with segedge.load(path) as segmenter:
        assert segmenter.checked is not None
        assert segmenter.checked.is_sound
    assert "carries a proof already" in run_verb("prove", path, code=2).stderr
    run_verb("prove", path, "--replace", "-o", tmp_path / "other.onnx")
    assert (tmp_path / "other.onnx").exists()


def test_eval_and_compare_say_it_too(tmp_path: Path) -> None:
    path = proved.exported("any_size")
    done = run_verb("compare", f"{path}@onnxruntime", f"{path}@openvino")
    assert "checked     first as exported" in done.stdout
    assert "checked     second not as exported" in done.stdout
    both = json.loads(
        run_verb("compare", f"{path}@onnxruntime", f"{path}@openvino", "--json").stdout
    )
    assert [one["passed"] for one in both["checked"]] == [True, False]
    told = run_verb("compare", f"{path}@openvino:f32", f"{path}@openvino").stdout
    assert "first       any_size.onnx on openvino:f32" in told, "not twice the same name"
