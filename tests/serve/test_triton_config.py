"""Configurations hold what the server's schema asks for, and the model's own facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segedge.card.card import ModelCard
from segedge.errors import CardError, ModelError, UsageError
from segedge.serve.config import parse_text
from segedge.serve.network import read_network
from segedge.serve.options import TritonOptions, served_name
from segedge.serve.repository import write_repository
from tests.serve.models import write_batch_model, write_plan
from tests.small_model import write_model


def configs(model: Path, root: Path, **options: Any) -> dict[str, Any]:
    """All configurations of a repository as the server would parse them."""
    report = write_repository(model, root / "repo", options=TritonOptions(**options))
    return {
        m.name: parse_text((m.path / "config.pbtxt").read_text(encoding="utf-8"))
        for m in report.models
    }


def dims(tensors: Any) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in tensors}


def test_a_network_with_a_batch_axis(batched: Path, tmp_path: Path) -> None:
    config = configs(batched, tmp_path, max_batch=4, delay_us=500)["street"]
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 4
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert dims(config.input) == {"x": [3, 48, 64]}
    assert dims(config.output) == {"logits": [2, 6, 8]}
    assert [(w.batch_size, list(w.inputs["x"].dims)) for w in config.model_warmup] == [
        (1, [3, 48, 64]),
        (4, [3, 48, 64]),
    ]
    assert all(w.inputs["x"].zero_data for w in config.model_warmup)


def test_a_network_without_one(small: Path, tmp_path: Path) -> None:
    """max_batch_size 0: the server adds no axis, and batches nothing; and that is said."""
    report = write_repository(small, tmp_path / "repo")
    config = parse_text((report.models[0].path / "config.pbtxt").read_text(encoding="utf-8"))
    assert config.max_batch_size == report.max_batch == 0
    assert not config.HasField("dynamic_batching")
    assert dims(config.input) == {"x": [1, 3, 48, 64]}
    assert [list(w.inputs["x"].dims) for w in config.model_warmup] == [[1, 3, 48, 64]]
    assert report.notes == (
        "small.onnx has no batch axis: frames run one by one, without dynamic batching;"
        " segedge export --dynamic batch makes one",
    )


def test_the_card_and_the_labels(batched: Path, tmp_path: Path) -> None:
    found = configs(batched, tmp_path)
    card = ModelCard.from_json(found["street"].parameters["segedge.card"].string_value)
    assert card == read_network(batched).card
    assert found["street"].output[0].label_filename == "labels.txt"
    labels = tmp_path / "repo" / "street" / "labels.txt"
    assert labels.read_text(encoding="utf-8") == "dark\nbright\n"


def test_the_ensemble(batched: Path, tmp_path: Path) -> None:
    found = configs(batched, tmp_path, overlay=True, step_instances=3)
    assert list(found) == ["street", "street_preprocess", "street_tail", "street_frames"]
    ensemble = found["street_frames"]
    assert ensemble.platform == "ensemble"
    assert dims(ensemble.input) == {"frame": [-1, -1, 3]}
    assert dims(ensemble.output) == {"labels": [-1, -1], "overlay": [-1, -1, 3]}
    steps = [
        (step.model_name, dict(step.input_map), dict(step.output_map))
        for step in ensemble.ensemble_scheduling.step
    ]
    assert steps == [
        ("street_preprocess", {"frame": "frame"}, {"tensor": "network_input"}),
        ("street", {"x": "network_input"}, {"logits": "network_output"}),
        (
            "street_tail",
            {"frame": "frame", "logits": "network_output"},
            {"labels": "labels", "overlay": "overlay"},
        ),
    ]
    for step in ("street_preprocess", "street_tail"):
        assert found[step].backend == "python"
        assert [group.count for group in found[step].instance_group] == [3]
        source = (tmp_path / "repo" / step / "1" / "model.py").read_text(encoding="utf-8")
        assert "as TritonPythonModel" in source
        compile(source, step, "exec")
    assert (tmp_path / "repo" / "street_frames" / "1").is_dir()


def test_each_tensor_map_names_tensors_that_its_model_has(small: Path, tmp_path: Path) -> None:
    found = configs(small, tmp_path, overlay=True)
    for step in found["small_frames"].ensemble_scheduling.step:
        model = found[step.model_name]
        assert {t.name for t in model.input} == set(step.input_map)
        assert {t.name for t in model.output} == set(step.output_map)


def test_without_frames_and_warm_up(batched: Path, tmp_path: Path) -> None:
    found = configs(batched, tmp_path, frames=False, warm_up=False, name="city-7")
    assert list(found) == ["city-7"]
    assert not found["city-7"].model_warmup


@pytest.mark.parametrize(
    ("options", "kind", "gpus"),
    [
        ({}, "KIND_AUTO", []),
        ({"kind": "cpu", "instances": 2}, "KIND_CPU", []),
        ({"kind": "gpu"}, "KIND_GPU", []),
        ({"gpus": (0, 2), "instances": 2}, "KIND_GPU", [0, 2]),
    ],
)
def test_instances(
    batched: Path, tmp_path: Path, options: dict[str, Any], kind: str, gpus: list[int]
) -> None:
    (group,) = configs(batched, tmp_path, **options)["street"].instance_group
    assert group.Kind.Name(group.kind) == kind
    assert list(group.gpus) == gpus
    assert group.count == options.get("instances", 1)


def test_the_steps_python(batched: Path, tmp_path: Path) -> None:
    found = configs(batched, tmp_path, python_env="/env.tar.gz")
    for name in ("street_preprocess", "street_tail"):
        assert found[name].parameters["EXECUTION_ENV_PATH"].string_value == "/env.tar.gz"
    assert "EXECUTION_ENV_PATH" not in found["street"].parameters


def broken_batches(path: Path, *, kind: str) -> Path:
    """A graph with a batch axis that is none: a constant of one frame, or frames that mix."""
    import onnx
    from onnx import helper, numpy_helper

    proto = onnx.load(write_batch_model(path))
    nodes = proto.graph.node
    pool, conv = nodes
    if kind == "fails":
        sizes = numpy_helper.from_array(np.array([1, 3, 6, 8]), "sizes")
        proto.graph.initializer.append(sizes)
        resize = helper.make_node("Resize", ["p", "", "", "sizes"], ["r"], mode="linear")
        add = helper.make_node("Add", ["p", "r"], ["a"])
        conv.input[0] = "a"
        parts = [pool, resize, add, conv]
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in parts]
        del nodes[:]
        nodes.extend(kept)
    else:
        conv.output[0] = "raw"
        axes = numpy_helper.from_array(np.array([0]), "axes")
        proto.graph.initializer.append(axes)
        nodes.append(helper.make_node("ReduceMean", ["raw", "axes"], ["mean"], keepdims=1))
        nodes.append(helper.make_node("Sub", ["raw", "mean"], ["logits"]))
        proto.opset_import[0].version = 18
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [("fails", "fails with two frames"), ("mixes", "two frames change each other")],
)
def test_a_batch_axis_that_is_none(tmp_path: Path, kind: str, message: str) -> None:
    """Found here, not by a server that does not start."""
    model = broken_batches(tmp_path / "street.onnx", kind=kind)
    with pytest.raises(
        ModelError, match=rf"street\.onnx says that it takes batches, and.*{message}"
    ):
        write_repository(model, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_an_engine(tmp_path: Path) -> None:
    model = write_plan(tmp_path / "orin.engine", largest_batch=4)
    report = write_repository(model, tmp_path / "repo")
    config = parse_text((report.models[0].path / "config.pbtxt").read_text(encoding="utf-8"))
    assert config.backend == "tensorrt"
    assert config.max_batch_size == 4
    assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU
    assert (report.models[0].path / "1" / "model.plan").read_bytes() == model.read_bytes()
    assert "the engine was built for batches of at most 4" in report.notes
    assert "TensorRT 10.13.3, on Orin (sm_87)" in report.needs[0]


def test_an_engine_of_one_frame(tmp_path: Path) -> None:
    report = write_repository(write_plan(tmp_path / "orin.engine"), tmp_path / "repo")
    assert report.max_batch == 0
    assert report.delay_us == 0


def test_what_cannot_be_served(tmp_path: Path) -> None:
    rtx = write_plan(tmp_path / "rtx.engine", flavour="tensorrt_rtx")
    with pytest.raises(UsageError, match="Triton loads plans of TensorRT, not of TensorRT-RTX"):
        write_repository(rtx, tmp_path / "repo")
    with pytest.raises(UsageError, match=r"no backend for torch\.export programs"):
        write_repository(tmp_path / "net.pt2", tmp_path / "repo")
    bare = write_model(tmp_path / "bare.onnx", has_card=False)
    with pytest.raises(CardError, match=r"bare\.onnx carries no card"):
        write_repository(bare, tmp_path / "repo")
    with pytest.raises(ModelError, match="does not exist"):
        write_repository(tmp_path / "none.onnx", tmp_path / "repo")
    (tmp_path / "rtx.engine.json").unlink()
    with pytest.raises(CardError, match="lies without the file that says what is in it"):
        write_repository(rtx, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a/b"}, "'a/b' is no name for a model on a server"),
        ({"version": 0}, "version must be at least 1, found 0"),
        ({"max_batch": 0}, "max batch must be at least 1"),
        ({"gpus": (0,), "kind": "cpu"}, "--gpus names GPUs"),
        ({"overlay": True, "frames": False}, "overlays are made by the model that takes frames"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TritonOptions(**options)


def test_names_that_servers_take() -> None:
    assert served_name("best (1)") == "best__1_"
    assert served_name("..") == "model"


def test_text_of_another_schema() -> None:
    with pytest.raises(ModelError, match=r"config\.pbtxt is not of Triton's schema"):
        parse_text("no_such_field: 1")
