"""`segedge run --every` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from test_run import Run, model, segedge

from tests.video.video_clips import write_clip

__all__ = ["model", "segedge"]  # fixtures

SIZE = (96, 128)


def pan(number: int, step: int = 2) -> np.ndarray:
    """A camera that pans over a wall of dark, red and bright stones."""
    rng = np.random.default_rng(3)
    stones = np.array([(0, 0, 0), (0, 0, 255), (255, 255, 255)], np.uint8)
    wall = np.kron(stones[rng.integers(0, 3, (4, 16))], np.ones((24, 24, 1), np.uint8))
    wall = np.clip(wall + rng.integers(-20, 20, wall.shape), 0, 255).astype(np.uint8)
    return wall[: SIZE[0], number * step : number * step + SIZE[1]]


def write_pan(path: Path, frames: int = 13, *, codec: str = "libx264") -> Path:
    images = [np.ascontiguousarray(pan(number)) for number in range(frames)]
    return write_clip(path, images, fps=10, codec=codec, options={})


def test_the_summary_says_how_many_frames_and_how_well(
    segedge: Run, model: Path, tmp_path: Path
) -> None:
    write_pan(tmp_path / "in.mp4")
    common = ("run", model, "in.mp4", "--backend", "onnxruntime", "--every", "4")
    done = segedge(*common, "-o", "out.mp4")
    words = " ".join(done.stdout.split())
    assert "motion network 4 of 13 frames; carried labels agree " in words
    assert "with the network's at key frames" in words
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert rows["network"].endswith("of 4 of 13 frames")
    assert "frames" not in rows["tail"]
    assert list(rows).index("network") < list(rows).index("motion") < list(rows).index("tail")
    assert "13 read = 13 written, 0 dropped" in done.stdout
    facts = json.loads(segedge(*common, "--json").stdout)
    assert facts["motion"]["network_frames"] == 4
    assert facts["motion"]["frames"] == facts["written"] == 13
    assert facts["motion"]["agreement"] > 0.9
    assert facts["stages"]["network"]["count"] == 4
    assert facts["stages"]["motion"]["count"] == 13


def test_no_frame_is_charged_with_the_network_of_another(
    segedge: Run, model: Path, tmp_path: Path
) -> None:
    """The stages of a run make up the frames: their shares are of one whole."""
    write_pan(tmp_path / "in.mp4")
    facts = json.loads(
        segedge("run", model, "in.mp4", "--backend", "onnxruntime", "--every", "4", "--json").stdout
    )
    own = ("preprocess", "network", "motion", "tail")
    parts = [facts["stages"][stage] for stage in own if stage in facts["stages"]]
    total_ms = sum(part["count"] * part["mean_ms"] for part in parts)
    assert facts["compute"]["count"] * facts["compute"]["mean_ms"] == pytest.approx(total_ms)


def test_each_line_says_how_its_frame_came_by_its_labels(
    segedge: Run, model: Path, tmp_path: Path
) -> None:
    write_pan(tmp_path / "in.mp4", frames=6)
    segedge("run", model, "in.mp4", "--backend", "onnxruntime", "--every", "4", "-o", "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    notes = [line["motion"] for line in lines]
    assert [line["index"] for line in lines] == list(range(6))
    assert [note["key"] for note in notes] == [True, False, False, False, True, True]
    assert [note["frames"] for note in notes] == [0, 1, 2, 1, 0, 0]
    assert [note["key_age_ms"] > 0 for note in notes] == [False, True, True, True, False, False]
    assert [note["agreement"] is None for note in notes] == [True] * 4 + [False] * 2
    assert sum(lines[2]["class_pixels"].values()) == SIZE[0] * SIZE[1]


def test_without_it_nothing_is_said_of_motion(segedge: Run, model: Path, tmp_path: Path) -> None:
    write_pan(tmp_path / "in.mp4", frames=2)
    common = ("run", model, "in.mp4", "--backend", "onnxruntime")
    assert "motion" not in segedge(*common, "-o", "a.jsonl").stdout
    assert "motion" not in (tmp_path / "a.jsonl").read_text()
    assert json.loads(segedge(*common, "--json").stdout)["motion"] is None


def test_each_source_has_its_own(segedge: Run, model: Path, tmp_path: Path) -> None:
    write_pan(tmp_path / "a.mp4", frames=9)
    write_pan(tmp_path / "b.mp4", frames=5)
    common = ("run", model, "a.mp4", "b.mp4", "--backend", "onnxruntime", "--every", "4", "--json")
    rows = json.loads(segedge(*common).stdout)["sources"]
    found = [(row["motion"]["network_frames"], row["motion"]["frames"]) for row in rows]
    assert found == [(3, 9), (2, 5)]


def test_images_are_a_video_where_that_is_said(segedge: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"in/{number}.png"), pan(number))
    common = ("run", model, "in", "--backend", "onnxruntime", "--every", "2")
    refused = " ".join(segedge(*common, code=2).stderr.split())
    assert "images are no video: nothing moves from one to the next found in" in refused
    assert "fix add --as-video, where they are the frames of a video" in refused
    facts = json.loads(segedge(*common, "--as-video", "--json").stdout)
    assert (facts["motion"]["network_frames"], facts["motion"]["frames"]) == (3, 5)


def test_a_network_that_gives_labels_is_refused(segedge: Run, model: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    from segedge.card.card import ModelCard

    proto = onnx.load(model)
    proto.graph.node.append(helper.make_node("ArgMax", ["logits"], ["labels"], axis=1, keepdims=0))
    proto.graph.output.pop()
    proto.graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 6, 8]))
    card = ModelCard.from_metadata({e.key: e.value for e in proto.metadata_props})
    assert card is not None
    helper.set_model_props(proto, card.replace(head="labels").to_metadata())
    onnx.save(proto, tmp_path / "labels.onnx")
    write_pan(tmp_path / "in.mp4", frames=2)
    done = segedge("run", "labels.onnx", "in.mp4", "--every", "2", code=2)
    assert "a network that gives labels cannot be carried along by motion" in done.stderr
    assert "fix     export it again without its argmax, or leave --every out" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--every", "0"), "every frame or every so many, found 0 fix --every 1, --every 4"),
        (("--every=-2",), "every frame or every so many, found -2"),
        (("--every", "1.5"), "every frame or every so many, found '1.5'"),
        (("--every", "often"), "every frame or every so many, found 'often' fix --every 1"),
        (("--every", "99"), "at most every 12th frame can be a key frame, found 99 fix --every 12"),
        (
            ("--every", "4", "--slide", "auto"),
            "sliding windows are not carried by motion fix leave",
        ),
        (("--every", "4", "--smooth"), "smoothing needs every frame through the network fix leave"),
        (("--every", "4", "--flicker"), "smoothing needs every frame through the network"),
        (("--every", "auto", "--motion-agreement", "97"), "must be within 0.5..1, found 97.0 fix"),
        (
            ("--every", "auto", "--motion-gap", "0"),
            "at most 60 seconds, found 0.0 fix --motion-gap",
        ),
        (("--every", "2", "--fuse", "1"), "at least 0 and below 1, found 1.0 fix --fuse 0.5"),
        (("--motion", "codec"), "--motion without --every fix add --every auto"),
        (("--motion-agreement", "0.9"), "--motion-agreement without --every fix add --every auto"),
        (("--motion-gap", "1"), "--motion-gap without --every"),
        (("--fuse", "0.5"), "--fuse without --every"),
        (("--every", "2", "--motion", "lidar"), "no motion 'lidar' known auto, flow, codec fix"),
    ],
)
def test_nonsense_is_one_message(
    segedge: Run, model: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    write_pan(tmp_path / "in.mp4", frames=2)
    done = segedge("run", model, "in.mp4", "--backend", "onnxruntime", *words, code=2)
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert done.stderr.count("error:") + done.stderr.count("Error") == 1


def test_frames_that_the_codec_says_nothing_of_are_told(
    segedge: Run, model: Path, tmp_path: Path
) -> None:
    write_pan(tmp_path / "h264.mkv")
    write_pan(tmp_path / "mjpeg.mkv", codec="mjpeg")
    common = ("run", model, "--backend", "onnxruntime", "--every", "4")
    asked = (*common, "--motion", "codec")
    motion = json.loads(segedge(*asked, "h264.mkv", "--json").stdout)["motion"]
    assert motion["codec_asked"] == 12
    assert motion["codec_answered"] > 6
    said = " ".join(segedge(*asked, "mjpeg.mkv").stdout.split())
    assert "note the codec gives none for 12 of 12 frames: flow instead" in said
    assert "the codec" not in segedge(*common, "mjpeg.mkv").stdout


def test_what_reads_the_logits_works_on_carried_frames(
    segedge: Run, model: Path, tmp_path: Path
) -> None:
    write_pan(tmp_path / "in.mp4", frames=9)
    done = segedge(
        "run", model, "in.mp4", "--backend", "onnxruntime", "--every", "4", "--regions",
        "--harvest", "hard", "--harvest-top", "1", "--harvest-distance", "0", "-o", "out.jsonl",
    )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    frames = [line for line in lines if "motion" in line]
    assert [line["motion"]["key"] for line in frames] == [n % 4 == 0 for n in range(9)]
    assert all(line["regions"] for line in frames)
    harvest = json.loads((tmp_path / "hard/harvest.json").read_text())
    assert "9 frames" in " ".join(done.stdout.split()), done.stdout
    assert harvest["frames"] == 9
