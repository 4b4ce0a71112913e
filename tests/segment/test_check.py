"""What an opening does about a proof: it looks once, warns, refuses, or takes another backend."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segedge
from segedge.backends import onnxruntime as onnxruntime_module
from segedge.backends.onnxruntime import OnnxRuntimeBackend
from segedge.backends.openvino import OpenVinoBackend
from segedge.card.attachments import PROOF_KEY
from segedge.card.geometry import Size
from segedge.card.modelfile import read_metadata, with_metadata
from segedge.cpu.ready import Ready
from segedge.errors import BackendError, ModelError, UsageError
from segedge.machine.kept import Kept
from segedge.options.sliding import Slide
from segedge.segment import check as check_module
from segedge.segment import segmenter as segmenter_module
from segedge.segment.check import Prover
from segedge.segment.checked import Checked
from tests.segment import planted, proved
from tests.small_model import run_verb, write_model

pytestmark = pytest.mark.usefixtures("own_cache")


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
    monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    """The answer needs the proof, which an opening reads while the backend works."""
    segedge.load(proved.exported("plain")).close()
    assert not (own_cache / "refused").exists()
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
    assert len(list((own_cache / "refused").iterdir())) == 1
    segedge.load(proved.exported("plain")).close()
    assert asked == ["onnxruntime", "openvino"]


def test_a_refusal_that_others_may_have_written_is_not_believed(own_cache: Path) -> None:
    path = proved.exported("any_size")
    segedge.load(path).close()
    plain = proved.exported("plain")
    segedge.load(plain).close()
    (entry,) = (own_cache / "refused").iterdir()
    prover = Prover.of(plain, proved.card_and_proof(plain)[0])
    assert prover is not None
    key = prover._key("openvino")
    forged = {**json.loads(entry.read_text()), "key": key}
    Kept.default("refused").put(key, forged["value"])
    with segedge.load(plain) as one:
        assert one.backend_name == "onnxruntime"
    (own_cache / "refused").chmod(0o777)
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


def test_it_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
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
    (own_cache / "checks").chmod(0o777)  # others may have written there
    segedge.load(path, backend="onnxruntime").close()
    assert len(looks) == 6


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino:f32", "auto"])
def test_the_first_opening_costs_one_run_of_the_network(
    backend: str, keeps: bool, monkeypatch: pytest.MonkeyPatch, own_cache: Path
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
        (own_cache / "checks").touch()
    for opening in range(2):
        with segedge.load(path, backend=backend) as segmenter:
            assert segmenter.checked is not None
            assert segmenter.checked.is_sound
        assert len(runs) == len(frames) == (1 if keeps or opening == 0 else 2)
    (picture, *_) = (one.picture for one in proved.card_and_proof(path)[1].answers)
    assert np.array_equal(frames[0], picture.pixels())
    assert picture.size != proved.SIZE, "it is resized, as frames are"


def test_what_was_replaced_while_it_was_opened_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that goes on exports over the file; the proof is read while a backend opens it."""
    path, plain = tmp_path / "m.onnx", proved.exported("plain")
    path.write_bytes(plain.read_bytes())
    edit = planted.GRAPH_FAULTS["input channels rolled"]
    other = planted.faulty(plain, edit, tmp_path / "other.onnx").read_bytes()
    retrained = proved.with_proof(
        other, proved.card_and_proof(plain)[0], tmp_path / "retrained.onnx"
    )
    replaced, session, of = threading.Event(), onnxruntime_module.cpu_session, Prover.of

    def opened(*given: Any, **named: Any) -> Any:
        found = session(*given, **named)
        retrained.replace(path)
        replaced.set()
        return found

    def read(*given: Any, **named: Any) -> Prover | None:
        assert replaced.wait(60)
        return of(*given, **named)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(onnxruntime_module, "cpu_session", opened)
        meanwhile.setattr(Prover, "of", read)
        with segedge.load(path, backend="onnxruntime") as old:
            assert old.checked is not None
            assert not old.checked.passed, "it is not what the new proof says"
    with segedge.load(path, backend="onnxruntime", strict=True) as new:
        assert new.checked is not None
        assert new.checked.is_sound


@pytest.mark.parametrize("fails", ["options", "strict", "an interrupt", "what comes last"])
def test_an_opening_that_fails_closes_all(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend with its network, and the threads that the picture's frame has started."""
    fault = planted.GRAPH_FAULTS["input channels rolled"]
    path = planted.faulty(proved.exported("plain"), fault, tmp_path / "m.onnx")
    closed, before, close = [], set(threading.enumerate()), OnnxRuntimeBackend.close
    windows = Slide(Size(300, 300)) if fails == "options" else None

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    def closing(self: OnnxRuntimeBackend) -> None:
        closed.append(self.description)
        close(self)

    monkeypatch.setattr(OnnxRuntimeBackend, "close", closing)
    if fails == "an interrupt":
        monkeypatch.setattr(Ready, "settle", interrupted)
    if fails == "what comes last":
        monkeypatch.setattr("segedge.segment.load.familiar_of", interrupted)
    with pytest.raises((UsageError, BackendError, KeyboardInterrupt)):
        segedge.load(path, backend="onnxruntime", strict=fails == "strict", slide=windows)
    assert len(closed) == 1
    assert not [one.name for one in {*threading.enumerate()} - before if "cpu" in one.name]


def test_a_flipped_bit_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = planted.faulty(proved.exported("plain"), planted.LEAST_BIT, tmp_path / "m.onnx")
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
    fault = planted.GRAPH_FAULTS["another slope"]
    path = planted.faulty(proved.exported("varied"), fault, tmp_path / "m.onnx")
    with caplog.at_level(logging.WARNING, "segedge"), segedge.load(path) as one:
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


def test_a_cache_that_cannot_be_written_is_told_once(
    own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is refused is kept twice, and cannot be: that is one thing to say."""
    for name in ("checks", "refused"):
        (own_cache / name).touch()
    for _ in range(2):
        with segedge.load(proved.exported("any_size")) as segmenter:
            assert "openvino refused: not as exported" in segmenter.backend_reason
    assert caplog.text.count("cannot be written") == 1


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


class Rounding:
    """OpenVINO as it is on a CPU with bf16: it says so, and its logits are rounded."""

    def __init__(self, backend: Any) -> None:
        self._backend, self.precision = backend, "bf16"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run(self, inputs: Any, outputs: Any = None, *, stream: int = 0) -> Any:
        broken = planted.Broken(self._backend, lambda x: planted.few_bits(np.float32(1.02) * x))
        return broken.run([planted.few_bits(x.copy()) for x in inputs], outputs)


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
