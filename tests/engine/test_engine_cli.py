"""`segedge build` and `segedge cache`, as a user calls them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from segedge.cli.main import run
from segedge.engine.cache import EngineCache
from segedge.engine.file import facts_path, read_engine
from segedge.engine.flavour import Flavour
from tests.engine.graphs import CARD, conv_model, nonzero_model, save


@pytest.fixture
def command(rtx: Flavour, cache: EngineCache, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `segedge ...`; gives exit code, stdout and stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        code = 0
        try:
            run([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_build_prints_what_it_made(command: Any, model: Path) -> None:
    code, out, err = command("build", model)
    assert code == 0
    assert "building with TensorRT-RTX 1.7.1: first build of this model" in err
    for words in ("image 1x3x32x64 float32", "logits 1x4x16x32 float32", "sm_80", "--backend"):
        assert words in out
    code, out, err = command("build", model)
    assert (code, err) == (0, "")
    assert "; cached" in out


def test_build_to_a_file(command: Any, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.engine"
    code, out, _ = command("build", model, "-o", target, "--precision", "fp16", "--target", "sm86")
    assert code == 0
    assert f"segedge run {target}" in out.replace("\n", "")
    file = read_engine(target)
    assert (file.card, file.header.targets) == (CARD, ("sm_86",))
    assert file.facts is not None
    assert file.facts.precision == "fp16"


def test_layers_and_what_stayed_fp32(command: Any, model: Path) -> None:
    _, out, _ = command("build", model, "--precision", "fp16", "--keep-fp32", "head", "--layers")
    assert "1 layer stayed fp32\n" in out
    assert "head (Conv): asked for: head" in out
    assert re.search(r"\n +\d+  \S+ +1x4x16x32 ", out)
    assert max(map(len, out.splitlines())) < 200


def test_images_of_the_user(command: Any, model: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.full((20, 40, 3), 90, np.uint8))
    code, out, _ = command("build", model, "--precision", "fp16", "--images", images)
    assert code == 0
    assert "1 images" in out
    code, _, err = command("build", model, "--precision", "fp16", "--images", tmp_path / "none")
    assert code == 2
    assert "not found" in err
    assert "--images IMAGE" in err
    clip = Path(__file__).parents[2] / "export" / "street" / "street.mp4"
    code, out, _ = command("build", model, "--precision", "fp16", "--images", clip)
    assert code == 0
    assert "on 16 images" in out


def test_json(command: Any, model: Path) -> None:
    code, out, _ = command("build", model, "--json")
    data = json.loads(out)
    assert code == 0
    assert (data["cached"], data["precision"]) == (False, "fp32")
    assert data["card"]["classes"] == list(CARD.classes)
    assert json.loads(command("build", model, "--json")[1])["cached"] is True


def test_what_to_run_next_finds_this_engine(command: Any, model: Path, cache: EngineCache) -> None:
    """`segedge run MODEL --backend tensorrt:fp16` builds without options: others go by file."""
    _, out, _ = command("build", model, "--precision", "fp16")
    assert f"segedge run {model} --backend tensorrt:fp16" in out
    _, out, _ = command("build", model, "--target", "sm86")
    (entry,) = [entry for entry in cache.entries() if entry.facts.targets == ("sm_86",)]
    assert f"segedge run {entry.path} " in out
    _, out, _ = command("build", model, "--no-cache")
    assert "not kept: -o MODEL.engine writes it" in out


def test_inspect_an_engine(command: Any, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    command("build", model, "--precision", "fp16", "--keep-fp32", "head", "-o", path)
    code, out, err = command("inspect", path)
    assert (code, err) == (0, "")
    for words in (
        "m.engine",
        "built from model.onnx on 20",
        "engine      TensorRT-RTX 1.7.1, for sm_80",
        "input       image 1x3x32x64 float32",
        "head (Conv): asked for: head",
        "1x4x16x32        Linear",
        "4 classes, road, car, sky, tree; stretch to 32x64",
        "here        ",
        "segedge run",
    ):
        assert words in out, words
    table = [line for line in out.splitlines() if re.match(r" +\d+  ", line)]
    assert len(table) == len(json.loads(command("inspect", path, "--json")[1])["engine_layers"])
    assert max(map(len, table)) <= 100


def test_inspect_says_what_is_wrong_with_an_engine(
    command: Any, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.engine"
    command("build", model, "-o", path)
    facts_path(path).unlink()
    code, out, _ = command("inspect", path)
    assert code == 0
    assert "nothing beside it says where it is from" in out
    assert "card        none" in out
    metadata = json.dumps({"task": "semantic", "names": {"0": "car"}}).encode()
    yolo = tmp_path / "yolo.engine"
    yolo.write_bytes(len(metadata).to_bytes(4, "little") + metadata + path.read_bytes())
    assert "task        semantic" in command("inspect", yolo)[1]
    path.write_bytes(path.read_bytes()[:3000])
    code, out, err = command("inspect", path)
    assert (code, out) == (2, "")
    assert "m.engine is truncated" in err


def test_dynamic(command: Any, tmp_path: Path) -> None:
    path = save(conv_model(("n", 3, "h", "w")), tmp_path / "d.onnx")
    code, _, err = command("build", path)
    assert code == 2
    assert "--size" in err
    code, out, _ = command("build", path, "--size", "32x32:32x64:64x64", "--batch", "1:1:2")
    assert code == 0
    assert "1x3x32x32 : 1x3x32x64 : 2x3x64x64" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "int8"], "QuantizeLinear"),
        (["--target", "sm90"], "no target 'sm90'"),
        (["--dla", "0"], "no DLA core 0"),
        (["--level", "7"], "level 7"),
        (["--size", "big"], "'big' is no size"),
        (["--flavour", "tensorrt"], "TensorRT is needed"),
    ],
)
def test_mistakes_end_with_two(command: Any, model: Path, words: list[str], message: str) -> None:
    code, out, err = command("build", model, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_an_unsupported_operator(command: Any, tmp_path: Path) -> None:
    code, _, err = command("build", save(nonzero_model(), tmp_path / "m.onnx"))
    assert code == 2
    assert "has no operator NonZero" in err
    assert "find_things" in err


def test_without_the_cache(command: Any, model: Path, cache: EngineCache, tmp_path: Path) -> None:
    code, _, _ = command("build", model, "--no-cache", "-o", tmp_path / "m.engine")
    assert code == 0
    assert cache.entries() == []
    assert (tmp_path / "m.engine").is_file()


def test_cache_list_and_clear(command: Any, model: Path, cache: EngineCache) -> None:
    command("build", model)
    code, out, _ = command("cache", "list")
    assert code == 0
    assert "model.onnx" in out
    assert json.loads(command("cache", "--json")[1])["engines"][0]["model"] == "model.onnx"
    assert "1 engines" in command("cache", "clear")[1]
    assert json.loads(command("cache", "clear", "--json")[1])["engines"] == 0
    code, _, err = command("cache", "clean")
    assert code == 2
    assert "did you mean 'clear'" in err


def test_doctor_names_the_flavours(command: Any) -> None:
    _, out, _ = command("doctor")
    assert "tensorrt_rtx" in out
    data = json.loads(command("doctor", "--json")[1])
    assert {f["name"] for f in data["tensorrt_flavours"]} == {"tensorrt", "tensorrt_rtx"}
    assert "problem" in data["gpu"]
