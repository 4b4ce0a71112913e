"""`segedge bench` as a user types it; what it measures is not asserted."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bench_parts import made

from segedge.measure.bench.results import read_results, write_results
from tests.small_model import run_verb, write_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
TINY = ("--rounds", 2, "--seconds", 0.01)


segedge = partial(run_verb, "bench")


def test_a_run_tells_all_and_keeps_it(model: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"a.{ending}" for ending in ("json", "md", "html")]
    words = ("--backend", "onnxruntime", "--backend", "onnxruntime-cuda", *TINY, "--batch", "1,2")
    outputs = ("--json", files[0], "--md", files[1], "--html", files[2])
    done = segedge(model, *words, *outputs, "--trace", tmp_path / "t.json")
    assert "skipped     batch 2: the batch of the network's input is fixed at 1" in done.stdout
    assert "perfetto" in done.stdout
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert not list(tmp_path.glob("*.part"))
    assert files[2].read_text().startswith("<!doctype html>")
    assert done.stderr.splitlines()[:2] == ["round 1/2  onnxruntime", "round 2/2  onnxruntime"]
    assert "skipped     onnxruntime-cuda: " in done.stdout
    kept = [line for line in done.stdout.splitlines() if str(tmp_path) not in line]
    assert max(map(len, kept)) <= 100
    results = read_results(files[0])
    assert [row.mode for row in results.rows] == ["network", "frame"]
    assert all(row.times.count >= 20 and len(row.times.rounds_ms) == 2 for row in results.rows)
    assert set(results.rows[1].stages_ms) == {"preprocess", "network", "tail"}
    assert results.subject.frame_size == "96x128"
    assert results.rows[0].peak_memory_mb > 10
    assert not any(str(tmp_path) in file.read_text() for file in files)
    done = segedge("--compare", files[0], files[0], "--tolerance", "99%")
    assert "1.000" in done.stdout


def test_motion_is_measured_beside_the_rate(model: Path, tmp_path: Path) -> None:
    words = ("--backend", "onnxruntime", "--mode", "network", *TINY)
    done = segedge(model, *words, "--every", 4, "--json", tmp_path / "a.json")
    results = read_results(tmp_path / "a.json")
    assert [row.key.what for row in results.rows] == ["network", "rate", "motion, every 4"]
    moved = results.rows[2]
    assert set(moved.stages_ms) >= {"network", "motion", "tail"}
    assert moved.times.count >= 20
    assert "motion, every 4  onnxruntime" in done.stdout
    assert "motion      as rate, of a picture that moves" in done.stdout
    segedge(model, *words, "--every", 2, "--json", tmp_path / "b.json")
    compared = segedge("--compare", tmp_path / "a.json", tmp_path / "b.json", "--tolerance", "99%")
    assert "only in one of them: onnxruntime motion, every 4" in compared.stdout


def test_a_regression_ends_with_3(tmp_path: Path) -> None:
    write_results(made([[10.0] * 9]), tmp_path / "a.json")
    write_results(made([[12.0] * 9]), tmp_path / "b.json")
    assert "slower" in segedge("--compare", tmp_path / "a.json", tmp_path / "b.json", code=3).stdout
    for first, second, tolerance in (("b", "a", "5%"), ("a", "b", "0.25")):
        files = (tmp_path / f"{first}.json", tmp_path / f"{second}.json")
        assert "nothing slower" in segedge("--compare", *files, "--tolerance", tolerance).stdout


def test_bad_input(model: Path, tmp_path: Path) -> None:
    bare = write_model(tmp_path / "bare.onnx", has_card=False)
    cases = [
        ((model, "--rounds", 0), "--rounds must be positive"),
        ((model, "--seconds", -1), "--seconds must be positive"),
        ((model, "--mode", "motion"), "the mode motion needs to know which frames"),
        ((model, "--every", 0), "every frame or every so many, found 0"),
        ((model, "--motion", "flow"), "--motion without --every"),
        ((model, "--frame-size", "0x8"), "a size must be positive"),
        ((model, "--batch", "0"), "whole numbers above 0"),
        ((model, "--source", "no.mp4"), "--source no.mp4 does not exist"),
        ((model, "--backend", "opnvino"), "did you mean 'openvino'"),
        ((model, "--backend", "onnxruntime-cuda"), "no backend could measure small.onnx"),
        ((model, model), "one model at a time"),
        ((model, "--json", tmp_path / "no" / "a.json"), "no folder"),
        ((bare,), "carries no card"),
        ((tmp_path / "a.pt2",), "takes an ONNX file"),
        ((tmp_path / "absent.onnx",), "absent.onnx"),
        (("--compare", model), "takes two results files"),
        (("--compare", model, model), "no results file"),
        (("--compare", model, model, "--tolerance", "x"), "is no share"),
    ]
    for words, message in cases:
        assert message in segedge(*words, code=2).stderr


def test_the_card_contradicts_the_network(model: Path, tmp_path: Path) -> None:
    """Each backend's own reason is told."""
    import onnx

    proto = onnx.load(model)
    (entry,) = proto.metadata_props
    data = json.loads(entry.value)
    data["classes"].append("third")
    data["palette_rgb"].append([1, 2, 3])
    entry.value = json.dumps(data)
    onnx.save(proto, tmp_path / "other.onnx")
    words = (tmp_path / "other.onnx", "--backend", "onnxruntime", *TINY)
    assert "the card does not fit the network's output" in segedge(*words, code=2).stderr
