"""What a backend computes must be what was exported: faults are found, sound files are not."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import segedge
from segedge.backends.onnxruntime import OnnxRuntimeBackend
from segedge.backends.openvino import OpenVinoBackend, openvino_abilities
from segedge.backends.registry import open_backend
from segedge.card.attachments import PROOF_KEY
from segedge.card.card import ModelCard
from segedge.card.modelfile import read_metadata, with_metadata
from segedge.errors import BackendError, ModelError
from segedge.machine.kept import Kept
from segedge.segment import check as check_module
from segedge.segment import common as common_module
from segedge.segment import segmenter as segmenter_module
from segedge.segment.check import Prover
from segedge.segment.checked import Checked
from tests import networks
from tests.segment import proved
from tests.small_model import run_verb, write_model

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def cache(own_cache: Path) -> Path:
    return own_cache


def looked(path: Path, *, card: ModelCard | None = None, wrap: Any = None) -> Checked:
    """What comes of the pictures on ONNX Runtime, whatever is known of the file."""
    own, proof = proved.card_and_proof(path)
    backend: Any = OnnxRuntimeBackend(path, threads=1)
    prover = Prover(path, card or own, proof, "", threads=1)
    found = prover.look("onnxruntime", wrap(backend) if wrap else backend)
    backend.close()
    assert found is not None
    return found


def test_the_network_itself_is_as_exported() -> None:
    found = looked(proved.exported("varied"))
    assert found.is_sound
    assert found.labels == found.tail == 1.0
    assert found.error is not None
    assert found.error < 5e-5
    assert found.text.startswith("as exported: 100 % of clear labels, logits within ")
    assert found.text.endswith("(ONNX Runtime, f32)")


# ------------------------------------------------------------------------------- planted faults


UNSEEN = (
    "a clip is a relu",
    "a bit of a deep weight's exponent",
    "a bit of a gate weight's exponent",
)
"""What changes nothing that this network says to the picture: the digest alone tells."""


@pytest.mark.parametrize("name", proved.GRAPH_FAULTS)
def test_a_fault_of_the_graph_is_found(name: str, tmp_path: Path) -> None:
    model = onnx.load(proved.exported("varied"))
    proved.GRAPH_FAULTS[name](model)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    found = looked(path)
    assert not found.is_sound
    assert not found.same_weights
    if name not in UNSEEN:
        assert not found.passed, found.text
        assert "not as exported" in found.text
    assert "the weights are not those that were exported" in found.text


@pytest.mark.parametrize("name", proved.CARD_FAULTS)
def test_a_fault_of_the_card_is_found(name: str) -> None:
    path = proved.exported("varied")
    card = proved.CARD_FAULTS[name](proved.card_and_proof(path)[0])
    found = looked(path, card=card)
    assert not found.passed, found.text


@pytest.mark.parametrize("name", proved.OUTPUT_FAULTS)
def test_a_fault_of_the_backend_is_found(name: str) -> None:
    found = looked(
        proved.exported("varied"),
        wrap=lambda backend: proved.Broken(backend, proved.OUTPUT_FAULTS[name]),
    )
    assert not found.passed, found.text


@pytest.mark.parametrize("name", proved.INPUT_FAULTS)
def test_a_fault_of_the_input_is_found(name: str) -> None:
    found = looked(
        proved.exported("varied"),
        wrap=lambda backend: proved.Broken(backend, given=proved.INPUT_FAULTS[name]),
    )
    assert not found.passed, found.text


@pytest.mark.parametrize("axis", [0, 1])
def test_a_wrong_tail_is_found(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(common_module.Tail):
        def run(self, logits: Any, **arrays: Any) -> None:
            super().run(logits, **arrays)
            arrays["labels"][:] = np.roll(arrays["labels"], 1, axis=axis)

    monkeypatch.setattr(common_module, "Tail", Wrong)
    found = looked(proved.exported("varied"))
    assert not found.passed
    assert "of pixels drawn as their logits say" in found.text


def test_a_wrong_preprocessing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(common_module.Preprocess):
        def run(self, image: Any, tensor: Any) -> None:
            super().run(np.roll(image, 1, axis=1), tensor)

    monkeypatch.setattr(common_module, "Preprocess", Wrong)
    assert not looked(proved.exported("varied")).passed


def test_there_are_enough_faults() -> None:
    tables = (
        proved.GRAPH_FAULTS, proved.CARD_FAULTS, proved.OUTPUT_FAULTS, proved.INPUT_FAULTS
    )  # fmt: skip
    assert sum(map(len, tables)) >= 38


# ---------------------------------------------------------------------------------- sound files


@pytest.mark.parametrize("dynamic", [None, "size"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_sound_files_are_not_refused(
    name: str, dynamic: networks.Dynamic | None, tmp_path: Path
) -> None:
    """Ten networks from two exporters, each on two backends, in bf16 too where the CPU has it."""
    if dynamic and name in networks.STATIC_ONLY:
        dynamic = None
    path = proved.of_the_zoo(name, dynamic, tmp_path)
    card, proof = proved.card_and_proof(path)
    prover = Prover(path, card, proof, "", threads=1)
    in_bf16 = ("openvino:bf16",) if "BF16" in openvino_abilities() else ()
    for backend in ("onnxruntime", "openvino:f32", *in_bf16):
        opened = open_backend(path, backend, threads=1).backend
        found = prover.look(backend, opened)
        opened.close()
        assert found is not None
        assert found.is_sound, found.text
        assert found.labels == 1.0 or backend in in_bf16, found.text


# -------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize("name", ["antialiased", "ceiled"])
def test_what_backends_compute_otherwise_is_exported_otherwise(name: str) -> None:
    """Both networks gave other labels on OpenVINO before their operator was rewritten."""
    path, frame = proved.exported(name), proved.picture()
    maps = []
    for backend in ("onnxruntime", "openvino:f32"):
        with segedge.load(path, backend=backend, strict=True) as segmenter:
            maps.append(segmenter(frame).labels)
    assert np.array_equal(*maps)
    with torch.no_grad():
        image = torch.from_numpy(frame[:, :, ::-1].transpose(2, 0, 1)[None] / 255).float()
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        logits = proved.NETWORKS[name]().eval()((image - mean) / std)[0]
    top = logits.topk(2, dim=0).values
    clear = (top[0] - top[1] > 1e-4 * (logits.max() - logits.min())).numpy()
    assert np.array_equal(maps[0][clear], logits.argmax(0).numpy()[clear])
    assert not proved.card_and_proof(path)[0].caveats


def test_auto_takes_what_computes_as_exported() -> None:
    """OpenVINO leaves out the antialias of a Resize, which at an open size cannot be rewritten."""
    path = proved.exported("any_size")
    (caveat,) = proved.card_and_proof(path)[0].caveats
    assert caveat.startswith("Resize with antialias: OpenVINO leaves that out")
    assert caveat in " ".join(run_verb("inspect", path).stdout.split())
    with segedge.load(path) as segmenter:
        assert segmenter.backend_name == "onnxruntime"
        assert "openvino refused: not as exported: " in segmenter.backend_reason
        assert "% of clear labels" in segmenter.backend_reason
        assert segmenter.checked is not None
        assert segmenter.checked.is_sound


def test_a_backend_that_fails_is_not_even_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    path = proved.exported("any_size")
    segedge.load(path).close()

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("opened again")

    monkeypatch.setattr(OpenVinoBackend, "__init__", fail)
    monkeypatch.setattr(check_module.Prover, "look", fail)
    with segedge.load(path) as segmenter:
        assert "openvino refused" in segmenter.backend_reason
    monkeypatch.setattr(check_module, "_library", lambda name: "another version")
    with pytest.raises(AssertionError, match="opened again"):
        segedge.load(path)


def test_what_was_refused_is_asked_for_only_where_something_was(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """The answer needs the proof, which an opening reads while the backend works."""
    segedge.load(proved.exported("plain")).close()
    assert not (cache / "refused").exists()
    asked: list[str] = []
    before = Prover.refused_before

    def counted(self: Prover, name: str) -> str:
        asked.append(name)
        return before(self, name)

    monkeypatch.setattr(Prover, "refused_before", counted)
    segedge.load(proved.exported("plain")).close()
    assert asked == []
    segedge.load(proved.exported("any_size")).close()
    assert asked == ["onnxruntime"], "when openvino had been refused"
    assert len(list((cache / "refused").iterdir())) == 1
    segedge.load(proved.exported("plain")).close()
    assert asked == ["onnxruntime", "openvino"]


def test_a_refusal_that_others_may_have_written_is_not_believed(cache: Path) -> None:
    path = proved.exported("any_size")
    segedge.load(path).close()
    plain = proved.exported("plain")
    segedge.load(plain).close()
    (entry,) = (cache / "refused").iterdir()
    prover = Prover.of(plain, proved.card_and_proof(plain)[0])
    assert prover is not None
    key = prover._key("openvino")
    forged = {**json.loads(entry.read_text()), "key": key}
    Kept.default("refused").put(key, forged["value"])
    with segedge.load(plain) as one:
        assert one.backend_name == "onnxruntime"
    (cache / "refused").chmod(0o777)
    with segedge.load(plain) as one:
        assert one.backend_name == "openvino"


def test_a_named_backend_runs_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    path = proved.exported("any_size")
    with caplog.at_level(logging.WARNING, "segedge"), segedge.load(path, backend="openvino") as one:
        assert one.checked is not None
        assert not one.checked.passed
        assert one(proved.picture()).labels.shape == (64, 96)
    assert "any_size.onnx: not as exported: " in caplog.text
    with pytest.raises(BackendError, match="does not compute what was exported") as caught:
        segedge.load(path, backend="openvino", strict=True)
    assert "% of clear labels" in caught.value.facts["found"]
    caplog.clear()
    with segedge.load(path, backend="openvino", check=False) as unchecked:
        assert unchecked.checked is None
    assert not caplog.text


def test_it_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(proved.exported("plain").read_bytes())
    looks: list[str] = []
    look = Prover.look

    def counted(self: Prover, name: str, *rest: Any) -> Checked | None:
        looks.append(name)
        return look(self, name, *rest)

    monkeypatch.setattr(Prover, "look", counted)
    for _ in range(3):
        segedge.load(path, backend="onnxruntime").close()
    segedge.load(path, backend="onnxruntime", threads=1).close()
    assert looks == ["onnxruntime"]
    segedge.load(path, backend="openvino:f32").close()
    assert looks == ["onnxruntime", "openvino:f32"]
    path.write_bytes(path.read_bytes())  # another file, as far as anybody can tell
    segedge.load(path, backend="onnxruntime").close()
    assert len(looks) == 3
    with monkeypatch.context() as other:
        other.setattr("onnxruntime.__version__", "another version")
        segedge.load(path, backend="onnxruntime").close()
    assert len(looks) == 4
    segedge.load(path, backend="onnxruntime").close()
    assert len(looks) == 5
    (cache / "checks").chmod(0o777)  # others may have written there
    segedge.load(path, backend="onnxruntime").close()
    assert len(looks) == 6


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino:f32", "auto"])
def test_the_first_opening_costs_one_run_of_the_network(
    backend: str, keeps: bool, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """One frame, the first picture, end to end; and none where it is known."""
    path = proved.exported("varied")
    kind = OnnxRuntimeBackend if backend == "onnxruntime" else OpenVinoBackend
    frames, runs = [], []
    shown, run = segmenter_module.Segmenter.__call__, kind.run

    def counted(self: Any, image: Any, **named: Any) -> Any:
        frames.append(image)
        return shown(self, image, **named)

    def counted_run(self: Any, *given: Any, **named: Any) -> Any:
        runs.append(self.precision)
        return run(self, *given, **named)

    monkeypatch.setattr(segmenter_module.Segmenter, "__call__", counted)
    monkeypatch.setattr(kind, "run", counted_run)
    if not keeps:
        (cache / "checks").touch()
    for opening in range(2):
        with segedge.load(path, backend=backend) as segmenter:
            assert segmenter.checked is not None
            assert segmenter.checked.is_sound
        assert len(runs) == len(frames) == (1 if keeps or opening == 0 else 2)
    (picture, *_) = (one.picture for one in proved.card_and_proof(path)[1].answers)
    assert np.array_equal(frames[0], picture.pixels())
    assert picture.size != proved.SIZE, "it is resized, as frames are"


def flipped(path: Path, target: Path) -> Path:
    """A copy with one bit of a weight flipped, so small that no label sees it."""
    model = onnx.load(path)
    tensor = next(one for one in model.graph.initializer if len(one.dims) == 4)
    raw = bytearray(tensor.raw_data)
    raw[0] ^= 1  # the lowest bit of the first weight's mantissa
    tensor.raw_data = bytes(raw)
    onnx.save(model, target)
    return target


def test_a_flipped_bit_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = flipped(proved.exported("plain"), tmp_path / "m.onnx")
    with caplog.at_level(logging.WARNING, "segedge"), segedge.load(path) as segmenter:
        assert segmenter.checked is not None
        assert segmenter.checked.passed
        assert not segmenter.checked.is_sound
    assert "the weights are not those that were exported" in caplog.text
    with pytest.raises(ModelError, match="not as it was exported"):
        segedge.load(path, strict=True)


def test_where_nothing_is_right_the_fastest_runs_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = onnx.load(proved.exported("varied"))
    proved.GRAPH_FAULTS["another slope"](model)
    onnx.save(model, tmp_path / "m.onnx")
    with caplog.at_level(logging.WARNING, "segedge"), segedge.load(tmp_path / "m.onnx") as one:
        assert one.backend_name == "openvino"
        assert one.backend_reason.startswith("none is right, fastest installed here")
        assert "onnxruntime refused: not as exported" in one.backend_reason
    assert caplog.text.count("not as exported") == 1


def test_files_without_a_proof_run_and_are_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_model(tmp_path / "m.onnx")
    with caplog.at_level(logging.INFO, "segedge"):
        for _ in range(2):
            with segedge.load(path, backend="onnxruntime") as segmenter:
                assert segmenter.checked is None
    assert caplog.text.count("carries no proof") == 1
    with pytest.raises(ModelError, match="cannot be checked"):
        segedge.load(path, backend="onnxruntime", strict=True)


def test_a_proof_that_cannot_be_read_counts_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.onnx"
    told = json.loads(read_metadata(proved.exported("plain"))[PROOF_KEY])
    first, *rest = told["answers"]
    for text in (
        "{",
        "x" * 70_000,
        json.dumps({"version": 99}),
        json.dumps({**told, "answers": [{**first, "classes": 200}, *rest]}),
        json.dumps({**told, "answers": [{**first, "plane_height": 10**30}, *rest]}),
        json.dumps({**told, "height": -1}),
    ):
        path.write_bytes(with_metadata(proved.exported("plain").read_bytes(), {PROOF_KEY: text}))
        caplog.clear()
        with segedge.load(path, backend="onnxruntime") as segmenter:
            assert segmenter.checked is None
        assert "left aside" in caplog.text


def test_a_cache_that_cannot_be_written_costs_a_look_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGEDGE_CACHE_DIR", str(tmp_path / "file"))
    for _ in range(2):
        with segedge.load(proved.exported("plain"), backend="onnxruntime") as segmenter:
            assert segmenter.checked is not None
            assert segmenter.checked.is_sound


def test_another_card_than_the_files_own_is_not_compared() -> None:
    path = proved.exported("plain")
    card = proved.card_and_proof(path)[0]
    with segedge.load(path, card=card.replace(color="bgr"), backend="onnxruntime") as segmenter:
        assert segmenter.checked is None


def test_what_is_not_compared_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A network of a fixed size that is proved at another one, and a card that is not its own."""
    data = proved.exported("plain").read_bytes()
    told = json.loads(read_metadata(proved.exported("plain"))[PROOF_KEY])
    resized = json.dumps({**told, "height": 128, "width": 192})
    (tmp_path / "resized.onnx").write_bytes(with_metadata(data, {PROOF_KEY: resized}))
    (tmp_path / "other.onnx").write_bytes(data)
    card = proved.card_and_proof(proved.exported("plain"))[0].replace(color="bgr")
    with caplog.at_level(logging.INFO, "segedge"):
        for name, own in (("resized.onnx", None), ("other.onnx", card)):
            with segedge.load(tmp_path / name, card=own, backend="onnxruntime") as segmenter:
                assert segmenter.checked is None
    assert "resized.onnx is proved at 128x192 alone: what it computes here is not" in caplog.text
    assert "other.onnx is opened with another card than its own: what it" in caplog.text


# ------------------------------------------------------------------------------- less than float


class Rounding:
    """OpenVINO as it is on a CPU with bf16: it says so, and its logits are rounded."""

    def __init__(self, backend: Any) -> None:
        self._backend, self.precision = backend, "bf16"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run(self, inputs: Any, outputs: Any = None, *, stream: int = 0) -> Any:
        broken = proved.Broken(self._backend, lambda x: proved._few_bits(np.float32(1.02) * x))
        return broken.run([proved._few_bits(x.copy()) for x in inputs], outputs)


def in_bf16(name: str) -> Checked:
    path = proved.exported(name)
    card, proof = proved.card_and_proof(path)
    backend: Any = Rounding(OpenVinoBackend(path, threads=1, precision="f32"))
    prover = Prover(path, card, proof, "", threads=1)
    found = prover.look("openvino", backend)
    assert found is not None
    return found


def test_what_bf16_changes_is_said() -> None:
    found = in_bf16("varied")
    assert found.passed
    assert found.rounds
    assert found.text.startswith("as exported, within bf16: ")
    assert ", logits within" in found.text
    changed = dataclasses.replace(found, labels=0.9964)
    assert "99.64 % of clear labels (0.36 % changed by bf16)" in changed.text
    assert found.text.endswith("(OpenVINO, bf16)")


def test_bf16_does_not_hide_what_is_wrong_in_float32_too() -> None:
    found = in_bf16("any_size")
    assert not found.passed
    assert found.text.endswith("(OpenVINO, bf16 and f32)")


# ----------------------------------------------------------------------------- the command line


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
    path = flipped(proved.exported("plain"), tmp_path / "m.onnx")
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
