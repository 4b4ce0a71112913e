"""What a first opening does beside the opening of its backend, and what it leaves warm."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segedge
from segedge.backends import onnxruntime as backend_module
from segedge.card.attachments import PROOF_KEY
from segedge.card.card import CARD_KEY
from segedge.card.geometry import Size
from segedge.card.modelfile import read_metadata, with_metadata
from segedge.card.picture import Picture
from segedge.cpu import ready as ready_module
from segedge.cpu.ready import Ready
from segedge.errors import CardError, ModelError
from segedge.machine import optional
from segedge.segment import common as common_module
from segedge.segment.check import Prover
from segedge.segment.common import Common, Whole
from segedge.segment.proving import Proving
from segedge.segment.segmenter import Segmenter
from tests.processes import ended
from tests.segment import planted, proved

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_pictures_frame_is_prepared_while_the_backend_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The backend opens only when the picture has come to the network's size."""
    path = proved.exported("plain")
    made, waited = threading.Event(), []
    session, run = backend_module.cpu_session, common_module.Preprocess.run

    def preprocessed(self: Any, *given: Any) -> None:
        run(self, *given)
        if self._frame != Size(40, 72):  # that of the kernels' own small frame
            made.set()

    def opened(*given: Any, **named: Any) -> Any:
        waited.append(made.wait(60))
        return session(*given, **named)

    monkeypatch.setattr(common_module.Preprocess, "run", preprocessed)
    monkeypatch.setattr(backend_module, "cpu_session", opened)
    with segedge.load(path, backend="onnxruntime") as segmenter:
        assert segmenter.checked is not None
        assert segmenter.checked.is_sound
    assert waited == [True]
    made.clear()
    monkeypatch.setattr(backend_module, "cpu_session", session)
    segedge.load(path, backend="onnxruntime").close()
    assert not made.is_set(), "what is known is not prepared for"


@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_nothing_is_read_before_kernels_and_library_are_there(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need the interpreter, and the opening waits for them."""
    read, early = threading.Event(), []
    of, load = Prover.of, ready_module.run_small_frame

    def reading(*given: Any, **named: Any) -> Prover | None:
        read.set()
        return of(*given, **named)

    def loaded(*given: Any) -> None:
        early.append(read.wait(0.3))
        load(*given)

    monkeypatch.setattr(Prover, "of", reading)
    monkeypatch.setattr(ready_module, "run_small_frame", loaded)
    with segedge.load(proved.exported("plain"), backend=backend) as segmenter:
        assert segmenter.checked is not None
    assert early == [False]
    assert read.is_set()


def test_a_first_opening_by_kernels_does_not_import_their_twin(own_cache: Path) -> None:
    code = """
import sys, segedge
with segedge.load(sys.argv[1], backend="onnxruntime") as segmenter:
    assert segmenter.checked.is_sound
print([name for name in sys.modules if name == "segedge.cpu.plain"])
"""
    words = [sys.executable, "-c", code, str(proved.exported("plain"))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_proof_waits_for_the_backends_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads share an interpreter, and the backend's import is what is waited for."""
    (tmp_path / "slow_library.py").write_text(
        "import builtins\nbuiltins.slow_begun.set()\nassert builtins.slow_goes_on.wait(60)\n"
    )
    begun, goes_on = threading.Event(), threading.Event()
    monkeypatch.setattr("builtins.slow_begun", begun, raising=False)
    monkeypatch.setattr("builtins.slow_goes_on", goes_on, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(optional._EXTRA_OF, "slow_library", "slow")
    path, ready = proved.exported("plain"), Ready(patience="none")
    card, proof = proved.card_and_proof(path)
    importing = threading.Thread(target=lambda: importlib.import_module("slow_library"))
    importing.start()
    assert begun.wait(60)
    ready.settle()
    proving = Proving(path, card, threads=1, graphs=True, ready=ready, common=None)
    preparing = threading.Thread(target=lambda: proving.begin("slow_library:f32"))
    preparing.start()
    try:
        preparing.join(0.3)
        assert not proving._made
    finally:
        goes_on.set()
    preparing.join()
    prover = proving.prover
    assert prover is not None
    assert np.array_equal(
        prover._ahead.pixels(prover.proof.answers[0]), proof.answers[0].picture.pixels()
    )
    assert prover._ahead.has_its_weights()
    importing.join()
    del sys.modules["slow_library"]


def test_a_programs_own_module_is_not_waited_for(tmp_path: Path) -> None:
    """It may have a backend's name, and be imported by the thread that waits for the opening."""
    (tmp_path / "eager.py").write_text(
        """
import sys, segedge
try:
    segedge.load(sys.argv[1], backend="eager")
except segedge.SegedgeError as error:
    print(error.headline)
"""
    )
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import eager"
    done = ended([sys.executable, "-c", code, proved.exported("plain")], seconds=60)
    assert "PyTorch runs torch.export programs here" in done.stdout, done.stderr


def test_nothing_is_compiled_for_a_file_that_every_backend_was_refused_for(
    tmp_path: Path, own_cache: Path
) -> None:
    """The second opening knows that before kernels are looked for; ``none`` asks for no wait."""
    (own_cache / "cpu").unlink()  # no kernels are kept
    fault = planted.GRAPH_FAULTS["another slope"]
    path = planted.faulty(proved.exported("varied"), fault, tmp_path / "m.onnx")
    code = """
import sys, numpy, segedge
with segedge.load(sys.argv[1], kernels="none") as segmenter:
    segmenter(numpy.zeros((40, 50, 3), numpy.uint8), outputs=("labels",))
    print(segmenter.backend_reason.partition(",")[0], "numba" in sys.modules)
"""
    for _ in range(2):
        done = ended([sys.executable, "-c", code, path])
        assert done.stdout.split() == ["none", "is", "right", "False"], done.stderr


def test_a_proof_that_cannot_be_read_is_told_once_the_backend_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What fails in the thread that prepares fails again where it is needed; all is closed."""
    closed: list[str] = []

    def refused(*given: Any, **named: Any) -> None:
        raise ModelError("no proof can be read")

    close = backend_module.OnnxRuntimeBackend.close

    def closing(self: Any) -> None:
        closed.append(self.description)
        close(self)

    monkeypatch.setattr(Prover, "of", refused)
    monkeypatch.setattr(backend_module.OnnxRuntimeBackend, "close", closing)
    with pytest.raises(ModelError, match="no proof can be read"):
        segedge.load(proved.exported("plain"), backend="onnxruntime")
    assert len(closed) == 1


def test_what_cannot_be_prepared_is_told_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = proved.exported("plain")

    def refused(self: Any, *given: Any) -> None:
        raise RuntimeError("no such pixels")

    monkeypatch.setattr(Picture, "pixels", refused)
    with pytest.raises(RuntimeError, match="no such pixels"):
        segedge.load(path, backend="onnxruntime")


def test_frames_find_the_threads_and_memory_of_the_picture() -> None:
    with segedge.load(proved.exported("plain"), backend="onnxruntime") as segmenter:
        assert isinstance(segmenter, Segmenter)
        common = segmenter._common
        (tensor,) = common._tensors.values()
        for size in (Size(100, 60), Size(64, 96), Size(31, 200)):
            segmenter(Picture(size.height, size.width, 4).pixels(), outputs=("labels",))
            way = segmenter._plans.of(size).way
            assert isinstance(way, Whole)
            assert way.tensor is tensor
        assert len(common._tensors) == 1


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_sizes_that_take_turns_leave_nothing_of_each_other(fit: str, tmp_path: Path) -> None:
    """They share the network's input, borders included."""
    card = proved.card_and_proof(proved.exported("plain"))[0].replace(fit=fit)
    data = proved.exported("plain").read_bytes()
    path = tmp_path / "m.onnx"
    path.write_bytes(with_metadata(data, {**card.to_metadata(), PROOF_KEY: ""}))
    assert read_metadata(path)[PROOF_KEY] == ""
    pictures = [Picture(*size, 9).pixels() for size in ((100, 60), (50, 200), (64, 96))]
    with segedge.load(path, backend="onnxruntime") as one:
        together = [one(picture).logits.copy() for picture in pictures * 2]
    for number, picture in enumerate(pictures):
        with segedge.load(path, backend="onnxruntime") as one:
            alone = one(picture).logits
        assert np.array_equal(together[number], alone)
        assert np.array_equal(together[number + 3], alone)


def test_what_was_made_ahead_is_used_once_and_only_where_it_fits() -> None:
    card = proved.card_and_proof(proved.exported("plain"))[0]
    network, picture = card.input_size, Picture(70, 90, 1).pixels()
    common = Common(1)
    common.rehearse(card, picture, network)
    other = common.plan(card, Size(70, 90), network, "float16")
    first = common.plan(card, Size(70, 90), network, "float32")
    second = common.plan(card, Size(70, 90), network, "float32")
    assert first.renderers
    assert not other.renderers
    assert not second.renderers


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "m.onnx does not exist"),
        (b"", "m.onnx is empty"),
        (b"\x89PNG\r\n\x1a\n0000", "m.onnx is no ONNX file"),
        (9000, "m.onnx is truncated"),
    ],
)
def test_what_is_no_model_file_is_told_as_that_with_a_card_too(
    backend: str, data: bytes | int | None, said: str, tmp_path: Path
) -> None:
    """Its proof is read beside a backend, whose library has other words for it."""
    plain, path = proved.exported("plain"), tmp_path / "m.onnx"
    if data is not None:
        path.write_bytes(plain.read_bytes()[:data] if isinstance(data, int) else data)
    with pytest.raises(ModelError, match=said):
        segedge.load(path, backend=backend, card=proved.card_and_proof(plain)[0])


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_a_files_own_card_is_told_of_where_it_is_damaged(backend: str, tmp_path: Path) -> None:
    """Beside the one that is given it says whether the proof is of the same."""
    plain, path = proved.exported("plain"), tmp_path / "m.onnx"
    path.write_bytes(with_metadata(plain.read_bytes(), {CARD_KEY: "{"}))
    with pytest.raises(CardError, match="card"):
        segedge.load(path, backend=backend, card=proved.card_and_proof(plain)[0])
