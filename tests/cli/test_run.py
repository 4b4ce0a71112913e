"""`segedge run`, `inspect` and `doctor` as a user types them, on a small real ONNX model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from segedge.card.card import ModelCard  # noqa: E402
from tests.processes import PIPES, SEGEDGE, ended, started  # noqa: E402
from tests.small_model import run_verb  # noqa: E402
from tests.video import video_clips  # noqa: E402

Run = Callable[..., subprocess.CompletedProcess[str]]
CLASSES = ("dark", "red", "bright")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Average pooling by 8, then a 1x1 convolution: classes by brightness and redness."""
    path = tmp_path_factory.mktemp("model") / "colors.onnx"
    return write_model(path, card=True)


def write_model(path: Path, *, card: bool, channels: int = 3, head_axes: int = 4) -> Path:
    from onnx import TensorProto, helper, numpy_helper

    weights = np.array([[-1, -1, -1], [4, -2, -2], [1, 1, 1]], np.float32)[:channels]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["pooled", "w"], ["logits"]),
    ]
    shape = [1, channels, 6, 8]
    if head_axes == 2:
        nodes[1].output[0] = "conv"
        nodes.append(helper.make_node("GlobalAveragePool", ["conv"], ["gap"]))
        nodes.append(helper.make_node("Flatten", ["gap"], ["logits"]))
        shape = [1, channels]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 48, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights.reshape(channels, 3, 1, 1), "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if card:
        made = ModelCard(
            classes=CLASSES,
            palette_rgb=((0, 0, 80), (255, 0, 0), (255, 255, 0)),
            input_height=48,
            input_width=64,
            stride=8,
            mean=(0.5, 0.5, 0.5),
            std=(1.0, 1.0, 1.0),
        )
        helper.set_model_props(proto, made.to_metadata())
    onnx.save(proto, path)
    return path


@pytest.fixture
def segedge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`segedge ...` in the folder of the test, as it prints where there is no terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    return run_verb


def scene(height: int = 96, width: int = 128) -> np.ndarray:
    """Left dark, middle red, right bright (BGR)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 3 : 2 * width // 3] = (0, 0, 255)
    image[:, 2 * width // 3 :] = 255
    return image


def write_clip(path: Path, frames: int = 20, size: tuple[int, int] = (96, 128)) -> Path:
    options = {"preset": "ultrafast"}
    return video_clips.write_clip(path, [scene(*size)] * frames, fps=10, options=options)


def test_an_image_to_an_overlay(segedge: Run, model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), scene())
    done = segedge("run", model, "in.png", "-o", "out.png")
    overlay = cv2.imread(str(tmp_path / "out.png"))
    expected = 0.5 * scene()[48, 64] + 0.5 * np.array((0, 0, 255))
    assert np.abs(overlay[48, 64] - expected).max() <= 1
    assert "1 read = 1 written, 0 dropped" in done.stdout
    assert "out.png" in done.stdout


def test_masks_hold_the_labels(segedge: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"in/{name}.png"), scene())
    segedge("run", model, "in", "-o", "masks", "--masks", "labels")
    labels = cv2.imread(str(tmp_path / "masks/b.png"), cv2.IMREAD_UNCHANGED)
    assert [int(labels[48, x]) for x in (5, 64, 120)] == [0, 1, 2]


def test_a_video_to_a_video_and_json(segedge: Run, model: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4")
    done = segedge("run", model, "in.mp4", "-o", "out.mp4", "--json", "--legend")
    facts = json.loads(done.stdout)
    assert facts["read"] == facts["written"] == 20
    assert facts["dropped"] == 0
    assert set(facts["stages"]) >= {"decode", "preprocess", "network", "tail", "encode"}
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 20
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_several_outputs_and_a_class_filter(segedge: Run, model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), scene())
    segedge(
        "run", model, "in.png", "-o", "one.png", "-o", "two.jpg", "--classes", "red",
        "--opacity", "1",
    )  # fmt: skip
    overlay = cv2.imread(str(tmp_path / "one.png"))
    np.testing.assert_array_equal(overlay[48, 5], scene()[48, 5])
    np.testing.assert_array_equal(overlay[48, 64], (0, 0, 255))
    assert (tmp_path / "two.jpg").is_file()


def test_an_unreadable_image_is_named_and_the_rest_goes_on(
    segedge: Run, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), scene())
    (tmp_path / "in/b.png").write_bytes(b"\x89PNG broken")
    done = segedge("run", model, "in", "-o", "out", code=1)
    assert "b.png could not be read" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.jpg"]


def expect_error(done: subprocess.CompletedProcess[str], *texts: str) -> None:
    lines = done.stderr.splitlines(keepends=True)  # the first test of a process is told, besides
    said = "".join(line for line in lines if "carries no proof" not in line)
    assert said.startswith("error: "), done.stderr
    for text in texts:
        assert text in said


def test_errors_of_models(segedge: Run, model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), scene())
    run = ("in.png", "-o", "out.png")
    unchecked = (*run, "--no-check")
    expect_error(segedge("run", "gone.onnx", *run, code=2), "gone.onnx does not exist")
    bare = write_model(tmp_path / "bare.onnx", card=False)
    expect_error(segedge("run", bare, *run, code=2), "carries no card", "segedge export")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.read_bytes()[:200])
    expect_error(segedge("run", cut, *run, code=2), "cut.onnx is truncated", "ends at byte 200")
    two = write_model(tmp_path / "two.onnx", card=True, channels=2)
    expect_error(segedge("run", two, *unchecked, code=2), "does not fit the network's output")
    flat = write_model(tmp_path / "flat.onnx", card=True, head_axes=2)
    expect_error(
        segedge("run", flat, *unchecked, code=2), "does not fit the network's output", "1x3"
    )
    assert not (tmp_path / "out.png").exists()


def test_errors_of_arguments(segedge: Run, model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), scene())
    expect_error(segedge("run", model, "inn.png", code=2), "did you mean", "in.png")
    done = segedge("run", model, "in.png", "--classes", "rad", code=2)
    expect_error(done, "no class 'rad'; did you mean 'red'?")
    done = segedge("run", model, "in.png", "--backend", "onnxruntim", code=2)
    expect_error(done, "did you mean 'onnxruntime'?")
    expect_error(segedge("run", model, "in.png", "--opacity", "2", code=2), "within 0..1")
    expect_error(segedge("run", model, "in.png", "-o", "x.xyz", code=2), "unknown ending '.xyz'")
    done = segedge("run", model, "in.png", "-o", "in.png/out.png", code=2)
    expect_error(done, "in.png")
    expect_error(segedge("run", model, "in.png", "-o", "in.png", code=2), "the source itself")


def test_broken_videos(segedge: Run, model: Path, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "in.mp4", frames=60)
    (tmp_path / "empty.mp4").touch()
    expect_error(segedge("run", model, "empty.mp4", code=2), "is empty")
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    expect_error(segedge("run", model, "half.mp4", "-o", "out.mp4", code=2), "half.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_that_ends_early_keeps_what_there_was(
    segedge: Run, model: Path, tmp_path: Path
) -> None:
    """Matroska has its index in front: a cut file still decodes up to the cut.

    What was made of it is playable, but does not have the name of a whole result.
    """
    whole = write_clip(tmp_path / "in.mkv", frames=300, size=(480, 640))
    half = tmp_path / "half.mkv"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = segedge("run", model, "half.mkv", "-o", "out.mp4", code=2)
    expect_error(done, "half.mkv ends early", "300 frames", "fix")
    assert "out.partial.mp4" in done.stdout
    assert not (tmp_path / "out.mp4").exists()
    kept = cv2.VideoCapture(str(tmp_path / "out.partial.mp4"))
    assert kept.get(cv2.CAP_PROP_FRAME_COUNT) > 20


def test_a_video_that_changes_size(segedge: Run, model: Path, tmp_path: Path) -> None:
    first = write_clip(tmp_path / "a.ts", frames=30)
    second = write_clip(tmp_path / "b.ts", frames=30, size=(48, 64))
    (tmp_path / "in.ts").write_bytes(first.read_bytes() + second.read_bytes())
    done = segedge("run", model, "in.ts", "-o", "out.mp4", code=2)
    expect_error(done, "in.ts changes size", "64x48", "128x96", "ffmpeg -i in.ts")
    assert "out.partial.mp4" in done.stderr
    assert not (tmp_path / "out.mp4").exists()
    assert cv2.VideoCapture(str(tmp_path / "out.partial.mp4")).isOpened()


def test_outputs_that_contradict_each_other(segedge: Run, model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), scene())
    run = ("run", model, "in.png")
    expect_error(segedge(*run, "-o", "a.png", "-o", "./a.png", code=2), "asked for twice")
    done = segedge(*run, "-o", "a.mp4", "--masks", "labels", code=2)
    expect_error(done, "--masks labels needs an output that can hold masks", "a.mp4")
    expect_error(segedge(*run, "-o", "a.mp4", "--fps", "0", code=2), "found 0")
    expect_error(segedge(*run, "-o", "", code=2), "without a name")
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_palette_masks(segedge: Run, model: Path, tmp_path: Path) -> None:
    """A palette PNG shows colours, and its pixels are still the labels."""
    cv2.imwrite(str(tmp_path / "in.png"), scene())
    segedge("run", model, "in.png", "-o", "mask.png", "--masks", "palette")
    data = (tmp_path / "mask.png").read_bytes()
    start = data.index(b"PLTE") + 4
    assert tuple(data[start : start + 9]) == (0, 0, 80, 255, 0, 0, 255, 255, 0)
    assert tuple(cv2.imread(str(tmp_path / "mask.png"))[48, 64]) == (0, 0, 255)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here")
def test_places_that_cannot_be_written(segedge: Run, model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), scene())
    (tmp_path / "file").touch()
    done = segedge("run", model, "in.png", "-o", "file/out.mp4", code=2)
    expect_error(done, "cannot write file/out.mp4", "fix")
    done = segedge("run", model, "in.png", "-o", "/proc/segedge/out.png", code=2)
    expect_error(done, "cannot write /proc/segedge/out.png", "fix")


def test_ctrl_c_leaves_a_playable_video(model: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=1500, size=(432, 768))
    words = [*SEGEDGE, "run", model, clip, "-o", "out.mp4", "--json"]
    with started(words, cwd=tmp_path, **PIPES) as process:
        while process.poll() is None and not list(tmp_path.glob(".out*")):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    if process.returncode == 0:
        pytest.skip("the run was over before the signal came")
    assert process.returncode == 130
    facts = json.loads(stdout)
    assert facts["interrupted"]
    if facts["written"]:
        capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == facts["written"]
    assert not list(tmp_path.glob(".out*"))


def test_inspect(segedge: Run, model: Path, tmp_path: Path) -> None:
    done = segedge("inspect", model)
    assert "dark, red, bright" in done.stdout
    assert "image 1x3x48x64 float32" in done.stdout
    assert "logits, 3 channels at stride 8, half-pixel, softmax" in done.stdout
    facts = json.loads(segedge("inspect", model, "--json").stdout)
    assert facts["card"]["classes"] == list(CLASSES)
    bare = write_model(tmp_path / "bare.onnx", card=False)
    assert "none: classes and preprocessing are unknown" in segedge("inspect", bare).stdout
    expect_error(segedge("inspect", tmp_path, code=2), "is a folder")


def test_doctor(segedge: Run) -> None:
    done = segedge("doctor")
    assert "onnxruntime" in done.stdout
    facts = json.loads(segedge("doctor", "--json").stdout)
    states = {entry["name"]: entry for entry in facts["backends"]}
    assert states["onnxruntime"]["ready"]
    assert facts["libraries"]["numba"]


def test_help_version_and_unknown_verbs(segedge: Run) -> None:
    listing = segedge("--help").stdout
    assert all(verb in listing for verb in ("export", "run", "inspect", "doctor"))
    assert segedge("--version").stdout.startswith("segedge 0.")
    assert "inspect" in segedge("inspet", code=2).stderr
    assert "--opacity" in segedge("run", "--help").stdout


def test_debug_shows_the_traceback(model: Path, tmp_path: Path) -> None:
    done = ended(
        [sys.executable, "-m", "segedge", "run", str(model), "gone.png", "--debug"], cwd=tmp_path
    )
    assert "Traceback" in done.stderr
    assert "SourceError" in done.stderr
