"""The Pareto front against a slow truth, the recommendation on hand-made results, the command."""

from __future__ import annotations

import html
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segedge.errors import UsageError
from segedge.measure.bench.durations import Statistics
from segedge.measure.optimize.candidates import Artifact, Candidate, choose, plan
from segedge.measure.optimize.front import pareto_front
from segedge.measure.optimize.make import int8_options
from segedge.measure.optimize.options import TuneOptions
from segedge.measure.optimize.recommend import recommend
from segedge.measure.optimize.trial import Score, Timing, Trial
from segedge.measure.optimize.video import VideoRate, rates_text
from tests.small_model import run_verb, write_model

COST = st.one_of(st.integers(0, 5).map(float), st.just(float("nan")))


@given(st.lists(st.tuples(COST, COST), max_size=12))
def test_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and a[1] <= b[1] and a != b

    slow = tuple(
        not any(v != v for v in point) and not any(beats(other, point) for other in points)
        for point in points
    )
    assert pareto_front(points) == slow


def trial(precision: str, ms: float, *, drop: float = 0.0, spread: float = 0.01,
          faults: tuple[str, ...] = ()) -> Trial:  # fmt: skip
    times = Statistics.of([[ms * (1 - spread), ms, ms * (1 + spread)]] * 3)
    artifact = Artifact(Path("m.onnx"), "fp32", "model")
    candidate = Candidate(artifact, f"b{ms:g}", precision, precision)  # type: ignore[arg-type]
    return Trial(
        candidate, Timing({"network": times, "frame": times}, ""), Score(1.0, 0.5, faults), drop
    )


def chosen(*trials: Trial, bound: float = 0.5) -> str:
    return recommend(trials, objective="frame", bound=bound).trial.candidate.name


def test_int8_that_is_faster_and_close_is_taken() -> None:
    assert chosen(trial("fp32", 10), trial("int8", 5, drop=0.4)) == "int8 on b5"


def test_int8_that_is_not_faster_than_the_fastest_float_is_not() -> None:
    assert chosen(trial("fp32", 10), trial("fp32", 4), trial("int8", 5)) == "fp32 on b4"
    assert chosen(trial("fp32", 10), trial("fp16", 4), trial("int8", 5)) == "fp16 on b4"


def test_what_the_noise_hides_is_not_taken_and_said() -> None:
    found = recommend(
        [trial("fp32", 10, spread=0.3), trial("int8", 9)], objective="frame", bound=0.5
    )
    assert found.trial.candidate.precision == "fp32"
    assert "too noisy to say" in found.rejected["int8 on b9"]
    assert "Too noisy to say" in found.sentence


@pytest.mark.parametrize("drop", [0.51, float("nan")])
def test_what_loses_too_much_is_not_taken(drop: float) -> None:
    assert chosen(trial("fp32", 10), trial("int8", 5, drop=drop)) == "fp32 on b10"


def test_a_tie_at_the_bound_holds_and_faulty_output_does_not() -> None:
    assert chosen(trial("fp32", 10), trial("int8", 5, drop=0.5)) == "int8 on b5"
    assert chosen(trial("fp32", 10), trial("fp16", 5, faults=("gives NaN",))) == "fp32 on b10"


def test_one_too_inaccurate_fast_one_does_not_shut_out_the_next() -> None:
    trials = (trial("fp32", 10), trial("fp16", 3, drop=2.0), trial("int8", 5))
    assert chosen(*trials) == "int8 on b5"


def test_the_plan_has_each_file_on_each_backend_and_fp32_in_any_case() -> None:
    files = [Artifact(Path("m.onnx"), "fp32", "model"), Artifact(Path("q.onnx"), "int8", "made")]
    found, skipped = plan(files, ["openvino", "onnxruntime", "tensorrt"], ["int8"])
    assert [one.name for one in found] == [
        "fp32 on openvino:f32", "int8 on openvino", "int8 on onnxruntime", "int8 on tensorrt:int8",
    ]  # fmt: skip
    assert not skipped
    found, skipped = plan(files[:1], ["openvino"], ["fp32", "bf16"])
    refused = "OpenVINO does not compute in bf16 on this CPU"
    assert skipped == {"bf16 on openvino:bf16": refused}
    found, skipped = plan(files[:1], ["openvino"], ["fp32", "bf16"], abilities={"FP32", "BF16"})
    assert [one.name for one in found] == ["fp32 on openvino:f32", "bf16 on openvino:bf16"]
    assert not skipped


@pytest.mark.parametrize(
    ("name", "said"),
    [("openvinoo", "openvino"), ("openvino:f23", "f32"), ("eager", "segedge bench")],
)
def test_unknown_backends(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose([name])
    assert said in str(caught.value)


def test_cpus_that_saturate_get_weights_of_7_bits() -> None:
    for backends, flags, weight_bits, activations in (
        (["openvino:f32"], ["avx2"], 7, "uint8"),
        (["openvino"], ["avx2", "avx512_vnni"], 8, "uint8"),
        (["tensorrt"], ["avx2"], 8, "int8"),
        (["tensorrt", "onnxruntime"], ["avx2"], 7, "int8"),
        (["onnxruntime"], ["asimddp"], 8, "uint8"),
    ):
        found = int8_options(backends, flags)
        assert (found.weight_bits, found.activations) == (weight_bits, activations)


def test_unknown_words() -> None:
    with pytest.raises(UsageError, match="int8"):
        TuneOptions(precisions=("int9",))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="precision"):
        TuneOptions(precisions=())


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    assert "labelled data set or images" in run_verb("optimize", model, code=2).stderr


def test_the_command(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = write_model(tmp_path / "m.onnx")
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 32:] = 255
    cv2.imwrite(str(tmp_path / "data/images/a.png"), image)
    cv2.imwrite(str(tmp_path / "data/labels/a.png"), image[:, :, 0] // 255)
    done = run_verb(
        "optimize", model, "--dataset", tmp_path / "data", "--backend", "onnxruntime",
        "--backend", "tensorrt", "--rounds", 1, "--seconds", 0.02, "-o", tmp_path / "out", "--json",
        "--html", tmp_path / "page.html",
    )  # fmt: skip
    found = json.loads(done.stdout)
    names = [one["name"] for one in found["trials"]]
    assert names[:2] == ["fp32 on onnxruntime", "fp16 on onnxruntime"]
    assert found["trials"][0]["drop"] == 0
    assert found["recommended"] in names
    assert (tmp_path / "out/m.fp16.onnx").is_file()
    page = (tmp_path / "page.html").read_text()
    assert "<svg" in page
    assert all(name in page for name in names)
    assert found["sentence"] in html.unescape(page)
    assert "--calibrate" in found["skipped"]["int8"]


def test_a_video_with_the_network_on_some_frames(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tests.batch.conftest import moving, write_video

    model = write_model(tmp_path / "m.onnx")
    write_video(tmp_path / "clip.mp4", moving(17), key_every=50)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), moving(1)[0])
    common = (
        "optimize", model, "--images", tmp_path / "images", "--backend", "onnxruntime",
        "--precision", "fp32", "--rounds", 1, "--seconds", 0.02,
    )  # fmt: skip
    page = tmp_path / "page.html"
    done = run_verb(*common, "--video", tmp_path / "clip.mp4", "--json", "--html", page)
    rates = json.loads(done.stdout)["video"]
    assert [rate["every"] for rate in rates] == [1, 2, 4]
    assert [rate["agreement"] is None for rate in rates] == [True, False, False]
    assert all(rate["fps"] > 0 for rate in rates)
    assert "every 4: " in page.read_text()
    printed = run_verb(*common, "--video", tmp_path / "clip.mp4").stdout
    assert "video       every frame " in printed
    still = run_verb(*common, "--video", tmp_path / "images/a.png", code=2).stderr
    assert "--video takes a video, and a.png is none" in still


def test_a_video_in_words() -> None:
    rates = (VideoRate(1, 20.0, None), VideoRate(2, 35.0, 0.991), VideoRate(4, 60.0, None))
    assert rates_text(rates) == (
        "every frame 20.0 fps; every 2: 35.0 fps (1.75 times), 99.1 % agree;"
        " every 4: 60.0 fps (3.00 times)"
    )
