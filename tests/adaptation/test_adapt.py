"""A network that meets another camera: what is written, what is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from segedge.adaptation.adapt import adapt
from segedge.adaptation.options import AdaptOptions
from segedge.card.modelfile import read_card, read_facts, with_metadata
from segedge.card.proof import PROOF
from segedge.card.statistics import STATISTICS
from segedge.errors import ModelError, SegedgeError, SourceError
from tests.adaptation.pictures import (
    CARD,
    HEIGHT,
    WIDTH,
    Trained,
    accuracy,
    fog,
    scene,
    write_scenes,
)
from tests.small_model import run_verb, write_model


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained()


@pytest.fixture(scope="module")
def model(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained.write(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def foggy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("images") / "fog", 12, fog)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("images") / "usual", 12)


def test_fog_is_met(model: Path, foggy: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted.onnx"
    report = adapt(model, out, images=foggy)
    assert report.out == out
    assert (report.frames, report.layers, report.left) == (12, 2, 0)
    assert report.agreement == 1.0
    assert accuracy(model) > 0.95
    assert accuracy(model, fog) < 0.7
    assert accuracy(out, fog) > 0.9


def test_the_file_says_what_was_done(model: Path, foggy: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted.onnx"
    report = adapt(model, out, images=foggy)
    facts = read_facts(out)
    card = read_card(out)
    assert card is not None
    assert card.adaptation == report.record
    assert card.parity is not None
    assert card.adaptation is not None
    assert card.adaptation.images_sha256 == report.images_sha256
    assert card.adaptation.information[1] > card.adaptation.information[0]
    assert STATISTICS.read(facts.metadata) == STATISTICS.read(read_facts(model).metadata)
    assert PROOF.read(facts.metadata) is not None
    before, after = (onnx.load(path).graph for path in (model, out))
    assert after.node == before.node
    assert [one.dims for one in after.initializer] == [one.dims for one in before.initializer]
    said = run_verb("inspect", out).stdout
    assert "adapted" in said


def test_the_new_file_passes_its_own_proof(model: Path, foggy: Path, tmp_path: Path) -> None:
    import segedge

    out = tmp_path / "adapted.onnx"
    adapt(model, out, images=foggy)
    with segedge.load(out, backend="onnxruntime", strict=True) as segmenter:
        assert segmenter.checked is not None
        assert segmenter.checked.is_sound


def test_images_like_those_of_training_change_nothing(
    model: Path, usual: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapted.onnx"
    report = adapt(model, out, images=usual)
    assert report.out is None
    assert report.chosen is report.trials[0]
    assert list(tmp_path.iterdir()) == []


def test_images_of_other_classes_are_warned_of(model: Path, foggy: Path, tmp_path: Path) -> None:
    from segedge.card.familiar import FAMILIAR, Familiar

    shares = (0.9, 0.05, 0.05)  # the scenes have thirds
    known = Familiar("exported", 9, 0.9, 0.01, (0.1,) * 10, shares, (0.0,) * 3, (0.0,) * 3)
    path = tmp_path / "model.onnx"
    path.write_bytes(with_metadata(model.read_bytes(), FAMILIAR.metadata(known)))
    report = adapt(path, tmp_path / "out.onnx", images=foggy)
    assert report.helped
    assert "other classes than those it was exported with (5" in report.warnings[0]
    own = FAMILIAR.read(read_facts(tmp_path / "out.onnx").metadata)
    assert own is not None
    assert own.when == "adapted"
    assert not adapt(tmp_path / "out.onnx", tmp_path / "2.onnx", images=foggy).warnings


def test_an_adapted_file_can_be_adapted_back(
    model: Path, foggy: Path, usual: Path, tmp_path: Path
) -> None:
    there, back = tmp_path / "there.onnx", tmp_path / "back.onnx"
    adapt(model, there, images=foggy)
    adapt(there, back, images=usual)
    assert accuracy(there) < 0.9
    assert accuracy(back) > 0.95


def test_statistics_measured_on_source_images(
    trained: Trained, foggy: Path, usual: Path, tmp_path: Path
) -> None:
    bare, out = trained.write(tmp_path / "bare.onnx", has_statistics=False), tmp_path / "out.onnx"
    report = adapt(bare, out, images=foggy, options=AdaptOptions(source=usual))
    assert report.statistics == "12 images"
    assert accuracy(out, fog) > 0.9
    kept = STATISTICS.read(read_facts(out).metadata)
    assert kept is not None
    assert kept.origin == "12 images"


def test_a_video_is_sampled_over_its_length(model: Path, tmp_path: Path) -> None:
    from segedge.adaptation.frames import sample_frames

    path = tmp_path / "fog.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for seed in range(20):
        writer.write(scene(seed, fog)[0])
    writer.release()
    with sample_frames(path, CARD, frames=8, seconds=1, progress=lambda *_: None) as frames:
        assert frames.facts.count == 8
        assert frames.facts.different == 8
        tensors = list(frames.tensors())
    wanted = cv2.VideoCapture(str(path))
    pictures = [wanted.read()[1] for _ in range(20)]
    for place, tensor in zip(np.linspace(0, 19, 8).round().astype(int), tensors, strict=True):
        own = ((pictures[place][..., ::-1] / 255.0 - 0.5) / 0.25).transpose(2, 0, 1)[None]
        assert np.abs(own - tensor).mean() < 0.05


def test_a_live_source_is_watched(model: Path) -> None:
    from segedge.adaptation.frames import sample_frames

    with sample_frames(
        "test:64x48@100", CARD, frames=3, seconds=0.2, progress=lambda *_: None
    ) as frames:
        assert frames.facts.count == 3


def test_labels_decide_where_there_are_some(model: Path, foggy: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
    for seed in range(400, 404):
        image, labels = scene(seed, fog)
        cv2.imwrite(str(data / "images" / f"{seed}.png"), image)
        cv2.imwrite(str(data / "labels" / f"{seed}.png"), labels)
    out = tmp_path / "out.onnx"
    words = ("--images", foggy, "-o", out, "--evaluate", data, "--layout", "plain", "--json")
    report = json.loads(run_verb("adapt", model, *words).stdout)
    assert report["chosen"]["miou"] == max(trial["miou"] for trial in report["trials"])
    assert report["chosen"]["miou"] > report["trials"][0]["miou"] + 0.1
    card = read_card(out)
    assert card is not None
    assert card.adaptation is not None
    assert card.adaptation.miou is not None
    assert "4 images" in card.adaptation.judged_on


def test_the_command(model: Path, foggy: Path, usual: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    said = run_verb("adapt", model, "--images", foggy, "-o", out).stdout
    assert "taken" in said
    assert str(out) in said.replace("\n", "")
    said = run_verb("adapt", model, "--images", usual, "-o", tmp_path / "no.onnx", code=1).stdout
    assert "refused" in said
    assert not (tmp_path / "no.onnx").exists()


# --------------------------------------------------------------------------- refusals


def refused(path: Path, images: object, out: Path, **options: object) -> SegedgeError:
    with pytest.raises(SegedgeError) as caught:
        adapt(path, out, images=str(images), options=AdaptOptions(**options))  # type: ignore[arg-type]
    assert not out.exists()
    assert caught.value.fix
    return caught.value


def test_no_images(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    error = refused(model, tmp_path / "empty", tmp_path / "out.onnx")
    assert isinstance(error, SourceError)
    assert "no images" in error.headline


def test_images_of_one_colour(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((48, 64, 3), 40 * number, np.uint8))
    error = refused(model, folder, tmp_path / "out.onnx")
    assert error.facts["frames"] == "5, each of one colour"


def test_one_still_scene(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "still"
    folder.mkdir()
    for number in range(8):
        cv2.imwrite(str(folder / f"{number}.png"), scene(1, fog)[0])
    error = refused(model, folder, tmp_path / "out.onnx")
    assert "too little variety" in error.headline
    assert error.facts["frames"] == "8, 1 of them different"


def test_a_file_without_statistics(trained: Trained, foggy: Path, tmp_path: Path) -> None:
    bare = trained.write(tmp_path / "bare.onnx", has_statistics=False)
    error = refused(bare, foggy, tmp_path / "out.onnx")
    assert "does not say what its layers expect" in error.headline
    assert "3 Conv" in error.facts["found"]
    assert "--source" in str(error.fix)


def test_an_engine(foggy: Path, tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"ftrt" + bytes(64))
    error = refused(engine, foggy, tmp_path / "out.onnx")
    assert "is an engine" in error.headline


def test_a_quantized_file(trained: Trained, usual: Path, foggy: Path, tmp_path: Path) -> None:
    from segedge.precision.int8.int8 import quantize
    from segedge.precision.int8.quantizer import QuantizeOptions

    source, small = trained.write(tmp_path / "float.onnx"), tmp_path / "int8.onnx"
    quantize(
        source, small, calibrate=[usual], options=QuantizeOptions(method="minmax", correct=False)
    )
    error = refused(small, foggy, tmp_path / "out.onnx")
    assert "int8" in error.headline
    assert "segedge quantize" in str(error.fix)


def test_a_file_in_fp16(trained: Trained, foggy: Path, tmp_path: Path) -> None:
    proto = onnx.load(trained.write(tmp_path / "float.onnx"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float16), "half"))
    onnx.save(proto, tmp_path / "half.onnx")
    error = refused(tmp_path / "half.onnx", foggy, tmp_path / "out.onnx")
    assert "float16" in error.headline
    assert "--precision fp16" in str(error.fix)


def test_norms_of_single_images_are_told(foggy: Path, tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    proto = onnx.load(write_model(tmp_path / "plain.onnx"))
    conv = proto.graph.node[-1]
    conv.output[0] = "c"
    for name in "sb":
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), name))
    proto.graph.node.append(helper.make_node("InstanceNormalization", ["c", "s", "b"], ["logits"]))
    onnx.save(proto, tmp_path / "norm.onnx")
    error = refused(tmp_path / "norm.onnx", foggy, tmp_path / "out.onnx")
    assert "each image by itself" in error.headline
    assert error.facts["found"].startswith("1 InstanceNormalization")


def test_no_layer_to_move(usual: Path, foggy: Path, tmp_path: Path) -> None:
    plain = write_model(tmp_path / "plain.onnx")
    error = refused_without_fix(plain, foggy, tmp_path / "out.onnx", source=str(usual))
    assert "no layer whose channels" in error.headline


def refused_without_fix(path: Path, images: Path, out: Path, **options: str) -> SegedgeError:
    with pytest.raises(ModelError) as caught:
        adapt(path, out, images=images, options=AdaptOptions(**options))  # type: ignore[arg-type]
    assert not out.exists()
    return caught.value


def test_nan(trained: Trained, foggy: Path, tmp_path: Path) -> None:
    broken = Trained()
    broken.biases[1] = np.full(8, np.nan)
    path = broken.write(tmp_path / "nan.onnx")
    error = refused(path, foggy, tmp_path / "out.onnx")
    assert "inf or NaN" in error.headline
    assert error.facts["first in"] == "b"


def test_no_video_and_no_camera(model: Path, tmp_path: Path) -> None:
    done = run_verb("adapt", model, "--images", "nowhere.mp4", "-o", tmp_path / "o.onnx", code=2)
    assert "nowhere.mp4 not found" in done.stderr


@pytest.mark.parametrize("words", [("--share", "0"), ("--share", "1.5"), ("--frames", "0")])
def test_options_that_cannot_be_meant(model: Path, words: tuple[str, str]) -> None:
    done = run_verb("adapt", model, "--images", "x", *words, code=2)
    assert words[0] in done.stderr
