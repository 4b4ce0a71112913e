"""Whatever lies in a file, it gives a result that is one, or an error in words.

Never another exception, and never half a result: what was read can be used, and is read again as
the same once it is written.

`make test` tries a few dozen spoilt files of each kind, the same each time. Thousands, others each
time, and for longer than anybody wants to wait:

    SEGEDGE_FUZZ=2000 .venv-test/bin/pytest tests/fuzz -p no:randomly
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segedge.card.card import CARD_KEY, ModelCard
from segedge.card.dialects import foreign_metadata
from segedge.card.records import Parity, Quantization
from segedge.errors import SegedgeError
from tests.fuzz.mutate import spoilt_bytes, spoilt_json
from tests.measure.bench.bench_parts import made
from tests.small_model import write_model
from tests.video.video_clips import gradient_images, write_clip

pytest.importorskip("onnx", reason="onnx is not installed: segedge[export]")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: segedge[cpu]")

EXAMPLES = int(os.environ.get("SEGEDGE_FUZZ", "0"))
THOROUGH = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FEW = settings(THOROUGH, max_examples=EXAMPLES or 12)
"""Of what takes tens of milliseconds."""
PARITY = Parity(3, "images", 1.0, 0.0, 1e-5, ("48x64",))
QUANTIZED = Quantization(
    "mse", 8, 2, "ab", 3, (), 0.9, "miou", "onnxruntime", 0.8, 0.79, "camvid/val", 1.0
)
CARD = ModelCard(
    ("dark", "bright"), ((0, 0, 0), (255, 255, 255)), 48, 64, stride=8,
    mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), parity=PARITY, quantization=QUANTIZED,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """OpenCV and NumPy tell of broken files and numbers on their own; that is not the question."""
    before = cv2.getLogLevel() if hasattr(cv2, "getLogLevel") else None
    if before is not None:
        cv2.setLogLevel(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    if before is not None:
        cv2.setLogLevel(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def survives(read: Callable[[Any], object], value: Any) -> None:
    """The rule: a result, which the reader has looked at, or one of our errors, in words."""
    try:
        read(value)
    except SegedgeError as error:
        in_words(error)


def in_words(error: SegedgeError) -> None:
    """A line that says something, and rows with a text each."""
    assert error.headline.strip()
    assert "\n" not in error.headline
    for label, text in error.lines():
        assert label.strip(), error
        assert text.strip(), error


def reads_again(read: Callable[[str], Any], told: str, write: Callable[[Any], str]) -> Any:
    """What was read, which is the same once it is written and read again."""
    found = read(told)
    assert write(read(write(found))) == write(found)
    return found


def read_by(path: Path, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """Of what reads a file: the same, of its contents."""

    def read_data(data: bytes) -> Any:
        path.write_bytes(data)
        return read(path)

    return read_data


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

    told = path.read_bytes().decode("utf-8", "replace")
    model = path.with_suffix(".onnx")
    data = write_model(model, dynamic=True).read_bytes()
    model.write_bytes(with_metadata(data, {PROOF_KEY: told}))
    prover = Prover.of(model, require_card(model), threads=1, code=plain)
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

    @THOROUGH
    @given(spoilt_json(right))
    def spoil(data: bytes) -> None:
        survives(read, data)

    spoil()


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return write_model(folder / "whole.onnx")


def run_model(path: Path) -> None:
    """What `segedge run` does with a frame."""
    import segedge

    with segedge.load(path, backend="onnxruntime", threads=1) as segmenter:
        result = segmenter(np.full((40, 60, 3), 90, np.uint8))
        assert result.overlay().shape == (40, 60, 3)
        assert result.labels.shape == (40, 60)
        assert result.labels.max() < len(segmenter.card.classes)


def test_cards(model: Path, folder: Path) -> None:
    """A card that is read is one that a frame can be run with: no value fails later."""
    import onnx

    network = onnx.load(model)

    def run_with(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        reads_again(ModelCard.from_json, text, ModelCard.to_json)
        del network.metadata_props[:]
        network.metadata_props.add(key=CARD_KEY, value=text)
        onnx.save(network, folder / "card.onnx")
        run_model(folder / "card.onnx")

    run_with(CARD.to_json().encode())

    @FEW
    @given(spoilt_json(CARD.to_plain()))
    def spoil(data: bytes) -> None:
        survives(run_with, data)

    spoil()


@THOROUGH
@given(st.sampled_from(sorted(CARD.to_plain())), spoilt_json({"value": [0]}))
def test_every_field_of_a_card(name: str, data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = data.decode("utf-8", "replace")
    survives(card_of_plain, {**CARD.to_plain(), name: value})


def card_of_plain(values: dict[str, Any]) -> None:
    """A card that is made of them says all of it again."""
    card = ModelCard.from_plain(values)
    assert ModelCard.from_json(card.to_json()) == card


def test_the_fields_as_they_are() -> None:
    card_of_plain(CARD.to_plain())


def test_model_files(model: Path, folder: Path) -> None:
    whole = model.read_bytes()
    run_model(model)

    @FEW
    @given(spoilt_bytes(whole))
    def spoil(data: bytes) -> None:
        survives(read_by(folder / "spoilt.onnx", run_model), data)

    spoil()


def _read_all(path: Path) -> None:
    from segedge.video.sources.open import open_source

    with closing(open_source(path)) as source:
        frames = list(source.frames())
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert len({frame.size for frame in frames} | {source.info.size} - {None}) <= 1
        for frame in frames:
            assert frame.image_hwc.dtype == np.uint8
            assert frame.image_hwc.shape == (*frame.size, 3)
        assert frames or source.failures, "nothing, and nobody says why"
        for failure in source.failures:
            assert failure.reason.strip()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_images(suffix: str, folder: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    ok, encoded = cv2.imencode(suffix, image)
    assert ok
    read = read_by(folder / f"image{suffix}", _read_all)
    read(encoded.tobytes())

    @FEW
    @given(spoilt_bytes(encoded.tobytes()))
    def spoil(data: bytes) -> None:
        survives(read, data)

    spoil()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_videos(suffix: str, folder: Path) -> None:
    whole = write_clip(folder / f"whole{suffix}", gradient_images(6)).read_bytes()
    _read_all(folder / f"whole{suffix}")

    @FEW
    @given(spoilt_bytes(whole))
    def spoil(data: bytes) -> None:
        survives(read_by(folder / f"video{suffix}", _read_all), data)

    spoil()


def test_label_files(folder: Path) -> None:
    from segedge.measure.datasets.label_file import read_label_file

    labels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    ok, encoded = cv2.imencode(".png", labels)
    assert ok

    def look(path: Path) -> Any:
        found = read_label_file(path)
        assert found.size
        assert found.dtype in (np.uint8, np.uint16)
        assert found.ndim == 2 or (found.shape[2:], found.dtype) == ((3,), np.uint8)
        return found

    read = read_by(folder / "labels.png", look)
    assert np.array_equal(read(encoded.tobytes()), labels)

    @THOROUGH
    @given(spoilt_bytes(encoded.tobytes()))
    def spoil(data: bytes) -> None:
        survives(read, data)

    spoil()


def test_class_files(folder: Path) -> None:
    from segedge.card.labels import read_classes

    def look(path: Path) -> Any:
        found = read_classes(path)
        assert len(set(found.names)) == len(found.names) == len(found.palette_rgb) > 0
        assert all(name.strip() for name in found.names)
        assert all(0 <= value <= 255 for color in found.palette_rgb for value in color)
        return found

    right = b"road 128 64 128\ncar 0 0 142\nstreet light\n"
    read = read_by(folder / "classes.txt", look)
    assert read(right).names == ("road", "car", "street light")

    @THOROUGH
    @given(spoilt_bytes(right))
    def spoil(data: bytes) -> None:
        survives(read, data)

    spoil()


def test_lists_of_inputs(folder: Path) -> None:
    from segedge.batch.inputs import find_inputs

    (folder / "a.png").write_bytes(b"x")

    def look(path: Path) -> Any:
        found, missing = find_inputs([str(path)])
        assert len({file.path for file in found}) == len(found) > 0
        assert all(Path(file.path).is_file() for file in found)
        assert all(failure.reason.strip() for failure in missing)
        return len(found), len(missing)

    right = b"a.png\n# a comment\n*.png\nsub/b.mp4\n"
    read = read_by(folder / "inputs.txt", look)
    assert read(right) == (1, 2)

    @THOROUGH
    @given(spoilt_bytes(right))
    def spoil(data: bytes) -> None:
        survives(read, data)

    spoil()


def test_lists_of_a_data_set(folder: Path) -> None:
    """Pascal VOC names its images in text files."""
    from segedge.measure.datasets.layouts import list_layout

    voc = folder / "voc"
    lists = voc / "ImageSets" / "Segmentation"
    for sub in (lists, voc / "JPEGImages", voc / "SegmentationClass"):
        sub.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(voc / "JPEGImages" / "a.jpg"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(voc / "SegmentationClass" / "a.png"), np.zeros((4, 4), np.uint8))

    def look(_: Path) -> Any:
        listing = list_layout(voc, layout="voc")
        assert all(path.is_file() for pair in listing.pairs for path in pair)
        return listing

    read = read_by(lists / "val.txt", look)
    assert [image.name for image, _ in read(b"a\n").pairs] == ["a.jpg"]

    @THOROUGH
    @given(spoilt_bytes(b"a\n"))
    def spoil(data: bytes) -> None:
        survives(read, data)

    spoil()


@THOROUGH
@given(st.data())
def test_metadata_of_other_tools(data: st.DataObject) -> None:
    """Ultralytics' keys are Python literals as text, Model API's are words and numbers."""
    from segedge.card.dialects import class_names, image_size, with_foreign_preprocessing

    metadata = {
        key: data.draw(spoilt_bytes(text.encode())).decode("utf-8", "replace")
        for key, text in foreign_metadata(CARD).items()
        if data.draw(st.booleans())
    }

    def names(found: dict[str, str]) -> None:
        known = class_names(found)
        assert known is None or all(isinstance(name, str) for name in known)

    def size(found: dict[str, str]) -> None:
        known = image_size(found)
        assert known is None or min(known.height, known.width) > 0

    def preprocessing(found: dict[str, str]) -> None:
        card_of_plain(with_foreign_preprocessing(CARD, found).to_plain())

    for read in (names, size, preprocessing):
        survives(read, metadata)


def test_engines(folder: Path) -> None:
    """Headers of plans of each flavour, Ultralytics' JSON before one, and none."""
    from segedge.engine.file import read_engine

    name = json.dumps({"names": "{0: 'road'}", "imgsz": "[64, 64]", "task": "semantic"}).encode()
    plain, rtx = b"ftrt" + bytes(60), b"vtrt" + bytes(12) + (64).to_bytes(8, "little") + bytes(40)
    plans = [plain, rtx, len(name).to_bytes(4, "little") + name + plain]

    def look(path: Path) -> None:
        found = read_engine(path)
        assert path.read_bytes().endswith(found.plan)
        assert found.plan.startswith((b"ftrt", b"vtrt"))
        assert all(isinstance(value, str) for value in found.metadata.values())

    read = read_by(folder / "net.engine", look)
    for plan in plans:
        read(plan)

    @THOROUGH
    @given(st.sampled_from(plans).flatmap(spoilt_bytes))
    def spoil(data: bytes) -> None:
        survives(read, data)

    spoil()


def test_a_failure_is_seen() -> None:
    """The rule itself: another exception comes through."""

    def read(_: object) -> None:
        raise OverflowError

    with pytest.raises(OverflowError):
        survives(read, b"")

    def refuse(words: tuple[str, str]) -> None:
        raise SegedgeError(words[0], facts={"found": words[1]})

    survives(refuse, ("a fact", "a number"))
    for speechless in (("", "x"), ("two\nlines", "x"), ("a fact", "")):
        with pytest.raises(AssertionError):
            survives(refuse, speechless)
