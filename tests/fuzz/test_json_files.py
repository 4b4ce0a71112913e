"""Files in JSON, of which each has one that is right."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fuzz.mutate import spoilt_json
from tests.fuzz.rules import CARD, read_by, reads_again, survives_spoilt
from tests.measure.bench.bench_parts import made
from tests.small_model import write_model

pytest.importorskip("onnx", reason="onnx is not installed: segedge[export]")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: segedge[cpu]")


def _ground(path: Path) -> object:
    from segedge.analyse.ground import read_ground

    found = read_ground(path).positions_m(np.zeros(1), np.zeros(1), (80, 100))
    assert np.asarray(found).shape == (1, 2)
    return found


def _zones(path: Path) -> object:
    from segedge.analyse.zones import read_zones, zone_pixels

    labels, zones = np.zeros((48, 64), np.uint8), read_zones(path)
    found = [zone_pixels(labels, zone, ("road", "car")) for zone in zones]
    assert len({zone.name for zone in zones}) == len(zones) > 0
    assert all(0 < sum(pixels.values()) <= labels.size for pixels in found)
    return found


def _mark(path: Path) -> object:
    from segedge.batch.ledger import SHARDS, Done, finished
    from segedge.batch.store import open_store

    (path.parent / SHARDS).mkdir(exist_ok=True)
    (path.parent / SHARDS / "one.json").write_bytes(path.read_bytes())
    marks = finished(open_store(str(path.parent)), ["one"])
    for done in marks.values():
        assert Done.of(done.to_json()) == done
    return marks


def _manifest(path: Path) -> object:
    from segedge.batch.ledger import MANIFEST, open_archive
    from segedge.batch.store import open_store

    (path.parent / MANIFEST).write_bytes(path.read_bytes())
    was_there = open_archive(open_store(str(path.parent)), MANIFEST_PLAIN)
    assert was_there, "it goes on with the archive that is there"
    theirs = json.loads(path.read_bytes())
    assert all(theirs[key] == MANIFEST_PLAIN[key] for key in ("version", "options"))
    return was_there


def _plan(path: Path) -> object:
    from segedge.batch.plan import plan_lines, read_plan

    return reads_again(read_plan, path.read_bytes(), plan_lines)


def _facts(path: Path) -> object:
    from segedge.engine.facts import EngineFacts

    return reads_again(
        functools.partial(EngineFacts.from_json, name="m.json"),
        path.read_bytes().decode("utf-8", "replace"),
        EngineFacts.to_json,
    )


def _baseline(path: Path) -> object:
    from segedge.harvest.scores import read_baseline

    found = read_baseline(path, ("road", "car"))
    assert found.shares.shape == (2,)
    assert found.shares.sum() == pytest.approx(1.0)
    assert found.shares.min() >= 0.0
    return found


def _results(path: Path) -> object:
    from segedge.measure.bench.results import read_results

    found = read_results(path)
    path.write_text(found.to_json(), encoding="utf-8")
    assert read_results(path).to_json() == found.to_json()
    return found


def _accuracy(path: Path) -> object:
    from segedge.measure.bench.accuracy import read_accuracy

    found = read_accuracy(path)
    assert found, "a file without one is refused"
    assert all(0.0 <= one.miou_percent <= 100.0 for one in found)
    return found


def _proof(path: Path) -> object:
    """A file is opened with it, and the network, which takes any size, is shown its picture."""
    from segedge.backends.onnxruntime import OnnxRuntimeBackend
    from segedge.card.attachments import PROOF_KEY
    from segedge.card.modelfile import require_card, with_metadata
    from segedge.cpu.code import plain
    from segedge.segment.check import Prover
    from segedge.segment.common import Common

    told = path.read_bytes().decode("utf-8", "replace")
    model = path.with_suffix(".onnx")
    data = write_model(model, dynamic=True).read_bytes()
    model.write_bytes(with_metadata(data, {PROOF_KEY: told}))
    prover = Prover.of(model, require_card(model), threads=1, common=Common(1, plain))
    if prover is None:
        return None
    with closing(OnnxRuntimeBackend(model, threads=1)) as backend:
        checked = prover.look("onnxruntime", backend)
    assert checked is None or 0.0 <= checked.labels <= 1.0
    return checked


def _hugging_face(path: Path) -> object:
    from segedge.card.huggingface import read_huggingface, read_settings

    (path.parent / "config.json").write_bytes(path.read_bytes())
    (path.parent / "preprocessor_config.json").write_bytes(path.read_bytes())
    found = read_huggingface(path.parent, read_settings(path.parent))
    assert found.classes
    assert found.input_size is None or min(found.input_size.height, found.input_size.width) > 0
    assert np.isfinite([*found.mean, *found.std]).all()
    return found


MANIFEST_PLAIN = {
    "schema": 1, "kind": "segedge batch", "version": "0.1.0", "model": "m.onnx",
    "model_sha256": "ab", "classes": ["road"], "options": {"masks": True, "shard_frames": 8},
}  # fmt: skip
JSON_FILES: dict[str, tuple[Callable[[Path], object], Any]] = {
    "ground": (_ground, {"points": [
        {"pixel": [x, y], "ground_m": [x / 9 + y / 99, y / 7]}
        for x, y in ((0, 0), (90, 5), (80, 70), (3, 60))
    ], "image_size": [100, 80]}),
    "ground matrix": (_ground, {"image_to_ground": [[1, 0, 0], [0, 1, 0], [0, 0.001, 1]]}),
    "zones": (_zones, {"gate": [[1, 2], [30, 2], [9, 40]], "lane": {
        "polygon": [[5, 5], [60, 5], [30, 30]], "classes": ["car"]}}),
    "batch mark": (_mark, {"shard_id": "one", "frames": 3, "seconds": 1.5, "worker": "w",
        "failures": [{"source": "a.png", "reason": "broken"}]}),
    "batch manifest": (_manifest, MANIFEST_PLAIN),
    "batch plan": (_plan, {"key": "a.mp4", "name": "a", "fingerprint": "f", "frames": 9,
        "parts": [{"first_index": 0, "frames": 9, "start_pts": 0, "key_dts": 0, "end_pts": None}],
        "shards": ["x"]}),
    "engine facts": (_facts, None),
    "proof": (_proof, None),
    "harvest baseline": (_baseline, {"class_shares": {"road": 0.3, "car": 0.1}}),
    "bench results": (_results, None),
    "accuracy": (_accuracy, {"model": "m.onnx", "backend": "onnxruntime", "miou": 0.6}),
    "Hugging Face": (_hugging_face, {
        "id2label": {"0": "road", "1": "car"}, "size": {"height": 64, "width": 64},
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2], "do_resize": True,
        "resample": 2, "do_rescale": True, "rescale_factor": 0.00392, "do_normalize": True}),
}  # fmt: skip
"""What is read as JSON: by what, and one that is right."""


def _right(name: str) -> Any:
    if name == "engine facts":
        return json.loads(_engine_facts().to_json())
    if name == "proof":
        return json.loads(_right_proof())
    if name == "bench results":
        return json.loads(made([[1.0, 1.1, 1.2]] * 3).to_json())
    return JSON_FILES[name][1]


@functools.cache
def _right_proof() -> str:
    from segedge.card.attachments import PROOF_KEY
    from segedge.card.modelfile import require_card
    from segedge.card.proof import PROOF
    from segedge.convert.proof import prove

    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "m.onnx", dynamic=True)
        return PROOF.metadata(prove(model, require_card(model)))[PROOF_KEY]


def _engine_facts() -> Any:
    from segedge.engine.facts import EngineFacts, EngineTensor

    tensor = EngineTensor("image", "float32", (1, 3, 48, 64))
    return EngineFacts(
        "m.onnx", "ab", "cd", 64, "tensorrt", "10.3.0", "Orin", "sm_87", (), "fp16", {"tf32": True},
        (tensor,), (tensor,), "2026-01-01T00:00:00+00:00", 1.0, "0.1.0", card=CARD,
    )  # fmt: skip


@pytest.mark.parametrize("name", JSON_FILES)
def test_json_files(name: str, folder: Path) -> None:
    own = folder / name.replace(" ", "-")
    own.mkdir(exist_ok=True)
    right = _right(name)
    read = read_by(own / "file.json", JSON_FILES[name][0])
    read(json.dumps(right).encode())  # as it is, it can be read
    survives_spoilt(read, spoilt_json(right))
