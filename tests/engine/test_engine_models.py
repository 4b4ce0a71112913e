"""What issue and README promise: the demo network and a really trained one, exported and built as a
user does, in every precision, on a machine without a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segedge.engine.builder.half import network_inputs
from segedge.engine.cache import EngineCache
from segedge.engine.flavour import Flavour
from segedge.engine.source import read_source
from tests.built import once
from tests.engine.graphs import MODELS, quantize, shared_model
from tests.fast_export import hasten_exports
from tests.small_model import run_verb

pytest.importorskip("torch", reason="segedge export needs torch")

STREET = Path(__file__).parents[2] / "export" / "street"
CAMVID = MODELS.parent / "data" / "camvid" / "val" / "images"


def export_street(path: Path, *more: str) -> Path:
    hasten_exports()
    words = ("--checkpoint", STREET / "street.pth", "--classes", STREET / "classes.txt")
    run_verb("export", f"{STREET}/network.py:street_net", *words, "--size", "384x768", *more,
             "-o", path)  # fmt: skip
    return path


def adopt(name: str, path: Path) -> Path:
    run_verb("export", shared_model(name), "--classes", "camvid", "-o", path)
    return path


def street_frames(folder: Path) -> Path:
    """Every 60th frame of the bundled clip."""
    folder.mkdir()
    clip = cv2.VideoCapture(str(STREET / "street.mp4"))
    index = 0
    while clip.grab():
        if index % 60 == 0:
            cv2.imwrite(str(folder / f"{index:04d}.png"), clip.retrieve()[1])
        index += 1
    return folder


def camvid_frames(folder: Path) -> Path:
    """Every 20th image of the real network's validation set."""
    folder.mkdir()
    for path in sorted(CAMVID.iterdir())[::20]:
        (folder / path.name).symlink_to(path)
    return folder


EXPORTED: dict[str, Callable[[Path], Path]] = {
    "street": export_street,
    "fastscnn_camvid": lambda path: adopt("fastscnn_camvid.onnx", path),
    "fastscnn_camvid_512x1024": lambda path: adopt("fastscnn_camvid_512x1024.onnx", path),
}


@pytest.fixture(scope="module", params=EXPORTED)
def exported(rtx: Flavour, request: pytest.FixtureRequest, run_folder: Path) -> tuple[Path, Path]:
    """A network as `segedge export` writes it, and real images for it."""
    folder = run_folder / "engine_models" / request.param
    path = once(folder / f"{request.param}.onnx", EXPORTED[request.param])
    if request.param == "street":
        return path, once(folder / "frames", street_frames)
    if not CAMVID.is_dir():
        pytest.skip(f"{CAMVID} is not here")
    return path, once(folder / "frames", camvid_frames)


def build(*words: object) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(run_verb("build", *words, "--json").stdout)
    return data


def test_fp32_and_fp16_and_int8(
    exported: tuple[Path, Path], cache: EngineCache, tmp_path: Path
) -> None:
    model, images = exported
    wide = build(model, "--precision", "fp32")
    assert wide["precision"] == "fp32"
    assert wide["card"]["classes"]
    assert set(wide["precisions"]) <= {"fp32", "-"}

    half = build(model, "--precision", "fp16", "--images", images, "-o", tmp_path / "h.engine")
    assert half["precision"] == "fp16"
    assert half["precisions"]["fp16"] > 30
    agreement = next(line for line in half["build"]["warnings"] if "of the pixels" in line)
    print(model.stem, agreement)
    assert float(agreement.split(" ")[0]) > 99.9
    assert half["size_bytes"] < wide["size_bytes"]

    card = read_source(model).card
    inputs = [image[None] for image in map(np.squeeze, network_inputs(str(images), card, limit=4))]
    quantized = quantize(model, tmp_path / "int8.onnx", inputs)
    small = build(quantized, "--precision", "int8")
    assert small["precision"] == "int8"
    assert sum(n for name, n in small["precisions"].items() if "int8" in name) > 40
    assert small["card"] == wide["card"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_demo_network_with_dynamic_size_and_batch(
    rtx: Flavour, cache: EngineCache, dynamic_street: Path, precision: str
) -> None:
    ranges = ("--size", "192x384:384x768:768x1536", "--batch", "1:1:4")
    data = build(dynamic_street, "--precision", precision, *ranges)
    assert data["precision"] == precision
    assert data["inputs"][0]["shape"] == [None, 3, None, None]
    assert data["inputs"][0]["profile"] == [[1, 3, 192, 384], [1, 3, 384, 768], [4, 3, 768, 1536]]
    fixed = build(dynamic_street, "--precision", precision)
    assert fixed["inputs"][0]["shape"] == [1, 3, 384, 768]


@pytest.fixture(scope="module")
def dynamic_street(rtx: Flavour, run_folder: Path) -> Path:
    path = run_folder / "engine_models" / "dynamic" / "street.onnx"
    return once(path, lambda path: export_street(path, "--dynamic", "size,batch"))
