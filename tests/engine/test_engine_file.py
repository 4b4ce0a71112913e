"""Engine files: the header, the Ultralytics form, and what does not fit this machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from segedge.engine.builder.builder import Built, build_plan
from segedge.engine.check import check_engine
from segedge.engine.facts import EngineFacts
from segedge.engine.file import engine_card, facts_path, is_engine, read_engine, write_engine
from segedge.engine.flavour import Flavour
from segedge.engine.header import read_header, split_ultralytics
from segedge.engine.options import BuildOptions
from segedge.errors import DeviceError, ModelError
from segedge.machine.gpu import Gpu
from tests.engine.graphs import CARD, conv_model, save

RTX_4090 = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, False)
ORIN = Gpu("Orin", (8, 7), 8 << 30, True)


@pytest.fixture(scope="module")
def built(rtx: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Built:
    path = save(conv_model(), tmp_path_factory.mktemp("m") / "model.onnx", card=CARD)
    return build_plan(path, flavour=rtx)


@pytest.fixture
def engine(built: Built, tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    write_engine(path, built.plan, built.facts)
    return path


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ((), ("sm_80", "sm_86", "sm_89", "sm_120", "sm_121")),
        (("sm75",), ("sm_75",)),
        (("sm80",), ("sm_80",)),
        (("sm86",), ("sm_86",)),
        (("sm89",), ("sm_89",)),
        (("sm120",), ("sm_120",)),
        (("sm121",), ("sm_121",)),
        (("sm75", "sm120"), ("sm_75", "sm_120")),
    ],
)
def test_header_of_real_plans(rtx: Flavour, model: Path, targets: Any, expected: Any) -> None:
    made = build_plan(model, flavour=rtx, options=BuildOptions(targets=targets))
    header = read_header(made.plan, name="m")
    assert header.flavour == "tensorrt_rtx"
    assert header.version == rtx.version[:3]
    assert header.length == len(made.plan)
    assert header.targets == expected == made.facts.targets


def test_header_of_tensorrt() -> None:
    """The bytes that trtexec reads: tag, 0, ... and the version at 24."""
    plan = b"ftrt" + bytes(20) + bytes([10, 3, 0, 30]) + bytes(100)
    header = read_header(plan, name="m")
    assert (header.flavour, header.version) == ("tensorrt", (10, 3, 0))
    assert str(header) == "TensorRT 10.3.0"


def test_reads_what_it_wrote(engine: Path, built: Built) -> None:
    file = read_engine(engine)
    assert file.plan == built.plan
    assert file.facts == built.facts
    assert file.card == engine_card(engine) == CARD
    assert EngineFacts.from_json(built.facts.to_json(), name="x") == built.facts


def test_a_plan_alone_is_read(engine: Path, built: Built) -> None:
    facts_path(engine).unlink()
    file = read_engine(engine)
    assert (file.facts, file.card) == (None, None)
    assert file.header.targets == built.facts.targets
    engine.write_bytes(built.plan[:-10])
    with pytest.raises(ModelError, match="truncated"):
        read_engine(engine)


def test_ultralytics_header_is_read(built: Built, tmp_path: Path) -> None:
    metadata = json.dumps({"task": "segment", "imgsz": [32, 64], "names": {0: "car"}}).encode()
    path = tmp_path / "yolo.engine"
    path.write_bytes(len(metadata).to_bytes(4, "little") + metadata + built.plan)
    file = read_engine(path)
    assert file.plan == built.plan
    assert file.metadata["task"] == "segment"


@pytest.mark.parametrize(
    "data", [b"", b"abc", b"\x05\x00\x00\x00{oops", b"\xff\xff\xff\x7f{}", b"\x02\x00\x00\x00[]"]
)
def test_no_ultralytics_header(data: bytes) -> None:
    assert split_ultralytics(data) == (data, {})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "truncated"),
        (b"ftrt", "truncated"),
        (b"x" * 1000, "no TensorRT engine"),
        (b"\x08\x0a" + bytes(200), "no TensorRT engine"),
    ],
)
def test_files_that_are_no_engines(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=words):
        read_engine(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_engine(tmp_path / "absent.engine")


def test_facts_of_another_engine(engine: Path, built: Built) -> None:
    other = dataclasses.replace(built.facts, plan_sha256="0" * 64)
    write_engine(engine, built.plan, other)
    with pytest.raises(ModelError, match="corrupt, or is not the engine"):
        read_engine(engine)


def test_facts_of_a_newer_schema(engine: Path) -> None:
    data = json.loads(facts_path(engine).read_text())
    facts_path(engine).write_text(json.dumps({**data, "schema": 99}))
    with pytest.raises(ModelError, match="schema 99"):
        read_engine(engine)
    facts_path(engine).write_text(json.dumps({**data, "added_later": 1}))
    assert read_engine(engine).facts is not None


def test_names_of_engines() -> None:
    assert is_engine("a.engine")
    assert is_engine("b/A.PLAN")
    assert not is_engine("a.onnx")


def test_fits_this_library(engine: Path, rtx: Flavour) -> None:
    file = read_engine(engine)
    assert check_engine(file, flavour=rtx, gpu=RTX_4090) == ()
    assert check_engine(file, flavour=rtx, gpu=None) == ()


def test_wrong_flavour(engine: Path, rtx: Flavour) -> None:
    here = Flavour("tensorrt", rtx.module, (10, 16, 1))
    with pytest.raises(ModelError) as caught:
        check_engine(read_engine(engine), flavour=here, gpu=None)
    assert "engine of TensorRT-RTX, not of TensorRT 10.16.1" in caught.value.headline
    assert "segedge build model.onnx" in str(caught.value)


def test_wrong_version(engine: Path, rtx: Flavour) -> None:
    here = dataclasses.replace(rtx, version=(1, 8, 0, 5))
    with pytest.raises(ModelError) as caught:
        check_engine(read_engine(engine), flavour=here, gpu=None)
    assert caught.value.facts == {"built by": "TensorRT-RTX 1.7.1", "here": "TensorRT-RTX 1.8.0"}


def test_wrong_gpu(engine: Path, rtx: Flavour) -> None:
    with pytest.raises(DeviceError) as caught:
        check_engine(read_engine(engine), flavour=rtx, gpu=ORIN)
    assert "Orin (sm_87)" in str(caught.value)
    assert "sm_80, sm_86" in caught.value.facts["built for"]


def tensorrt_file(built: Built, tmp_path: Path, **changes: Any) -> Path:
    """An engine as TensorRT 10.13 on an Orin would have left it."""
    plan = b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(200)
    from segedge.engine.file import sha256

    facts = dataclasses.replace(
        built.facts, flavour="tensorrt", version="10.13.3", gpu="Orin", capability="sm_87",
        targets=(), plan_sha256=sha256(plan), plan_bytes=len(plan), **changes,
    )  # fmt: skip
    path = tmp_path / "orin.engine"
    write_engine(path, plan, facts)
    return path


def test_tensorrt_engines_are_bound_to_their_gpu(
    built: Built, tmp_path: Path, rtx: Flavour
) -> None:
    here = Flavour("tensorrt", rtx.module, (10, 13, 3, 9))
    file = read_engine(tensorrt_file(built, tmp_path))
    assert check_engine(file, flavour=here, gpu=ORIN) == ()
    with pytest.raises(DeviceError, match="cannot run on this GPU"):
        check_engine(file, flavour=here, gpu=RTX_4090)
    nano = dataclasses.replace(ORIN, name="Orin Nano")
    assert "may be slower" in check_engine(file, flavour=here, gpu=nano)[0]


def test_compatible_engines_go_further(built: Built, tmp_path: Path, rtx: Flavour) -> None:
    options = {"version_compatible": True, "hardware_compatible": True}
    file = read_engine(tensorrt_file(built, tmp_path, options=options))
    later = Flavour("tensorrt", rtx.module, (10, 16, 1))
    assert check_engine(file, flavour=later, gpu=RTX_4090) == ()
    for version in ((10, 3, 0), (11, 4, 0)):
        with pytest.raises(ModelError, match="another version"):
            check_engine(file, flavour=Flavour("tensorrt", rtx.module, version), gpu=None)
