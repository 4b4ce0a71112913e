"""Planted faults of graph, card, backend and input are found; sound files are not refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import segedge
from segedge.backends.openvino import openvino_abilities
from segedge.backends.registry import open_backend
from segedge.errors import ModelError
from segedge.segment import common as common_module
from segedge.segment.check import Prover
from tests import networks
from tests.segment import planted, proved
from tests.small_model import run_verb

pytestmark = pytest.mark.usefixtures("own_cache")

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_the_network_itself_is_as_exported() -> None:
    found = proved.looked(proved.exported("varied"))
    assert found.is_sound
    assert found.labels == found.tail == 1.0
    assert found.error is not None
    assert found.error < 5e-5
    assert found.text.startswith("as exported: 100 % of clear labels, logits within ")
    assert found.text.endswith("(ONNX Runtime, f32)")


UNSEEN = (
    "a clip is a relu",
    "a bit of a deep weight's exponent",
    "a bit of a gate weight's exponent",
)
"""What changes nothing that this network says to the picture: the digest alone tells."""


@pytest.mark.parametrize("name", planted.GRAPH_FAULTS)
def test_a_fault_of_the_graph_is_found(name: str, tmp_path: Path) -> None:
    fault = planted.GRAPH_FAULTS[name]
    found = proved.looked(planted.faulty(proved.exported("varied"), fault, tmp_path / "m.onnx"))
    assert not found.is_sound
    assert not found.same_weights
    if name not in UNSEEN:
        assert not found.passed, found.text
        assert "not as exported" in found.text
    assert "the weights are not those that were exported" in found.text


@pytest.mark.parametrize("name", planted.CARD_FAULTS)
def test_a_fault_of_the_card_is_found(name: str) -> None:
    path = proved.exported("varied")
    card = planted.CARD_FAULTS[name](proved.card_and_proof(path)[0])
    found = proved.looked(path, card=card)
    assert not found.passed, found.text


@pytest.mark.parametrize("name", planted.OUTPUT_FAULTS)
def test_a_fault_of_the_backend_is_found(name: str) -> None:
    found = proved.looked(
        proved.exported("varied"),
        wrap=lambda backend: planted.Broken(backend, planted.OUTPUT_FAULTS[name]),
    )
    assert not found.passed, found.text


@pytest.mark.parametrize("name", planted.INPUT_FAULTS)
def test_a_fault_of_the_input_is_found(name: str) -> None:
    found = proved.looked(
        proved.exported("varied"),
        wrap=lambda backend: planted.Broken(backend, given=planted.INPUT_FAULTS[name]),
    )
    assert not found.passed, found.text


@pytest.mark.parametrize("axis", [0, 1])
def test_a_wrong_tail_is_found(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(common_module.Tail):
        def run(self, logits: Any, **arrays: Any) -> None:
            super().run(logits, **arrays)
            arrays["labels"][:] = np.roll(arrays["labels"], 1, axis=axis)

    monkeypatch.setattr(common_module, "Tail", Wrong)
    found = proved.looked(proved.exported("varied"))
    assert not found.passed
    assert "of pixels drawn as their logits say" in found.text


def test_a_wrong_preprocessing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(common_module.Preprocess):
        def run(self, image: Any, tensor: Any) -> None:
            super().run(np.roll(image, 1, axis=1), tensor)

    monkeypatch.setattr(common_module, "Preprocess", Wrong)
    assert not proved.looked(proved.exported("varied")).passed


def test_there_are_enough_faults() -> None:
    tables = (
        planted.GRAPH_FAULTS, planted.CARD_FAULTS, planted.OUTPUT_FAULTS, planted.INPUT_FAULTS
    )  # fmt: skip
    assert sum(map(len, tables)) >= 38


@pytest.mark.parametrize("dynamic", [None, "size"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_sound_files_are_not_refused(
    name: str, dynamic: networks.Dynamic | None, tmp_path: Path
) -> None:
    """Ten networks from two exporters, each on two backends, in bf16 too where the CPU has it."""
    if dynamic and name in networks.STATIC_ONLY:
        dynamic = None
    path = proved.of_the_zoo(name, dynamic, tmp_path)
    card, proof = proved.card_and_proof(path)
    prover = Prover(path, card, proof, "", threads=1)
    in_bf16 = ("openvino:bf16",) if "BF16" in openvino_abilities() else ()
    for backend in ("onnxruntime", "openvino:f32", *in_bf16):
        opened = open_backend(path, backend, threads=1).backend
        found = prover.look(backend, opened)
        opened.close()
        assert found is not None
        assert found.is_sound, found.text
        assert found.labels == 1.0 or backend in in_bf16, found.text


@pytest.mark.parametrize("name", ["antialiased", "ceiled"])
def test_what_backends_compute_otherwise_is_exported_otherwise(name: str) -> None:
    """Both networks gave other labels on OpenVINO before their operator was rewritten."""
    path, frame = proved.exported(name), proved.picture()
    maps = []
    for backend in ("onnxruntime", "openvino:f32"):
        with segedge.load(path, backend=backend, strict=True) as segmenter:
            maps.append(segmenter(frame).labels)
    assert np.array_equal(*maps)
    with torch.no_grad():
        image = torch.from_numpy(frame[:, :, ::-1].transpose(2, 0, 1)[None] / 255).float()
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        logits = proved.NETWORKS[name]().eval()((image - mean) / std)[0]
    top = logits.topk(2, dim=0).values
    clear = (top[0] - top[1] > 1e-4 * (logits.max() - logits.min())).numpy()
    assert np.array_equal(maps[0][clear], logits.argmax(0).numpy()[clear])
    assert not proved.card_and_proof(path)[0].caveats


@pytest.mark.parametrize("name", ["m.onnx.data", "m.onnx_data"])
def test_a_flipped_bit_beside_the_file_is_found(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        onnx.load(proved.exported("varied")), path, save_as_external_data=True, location=name,
        size_threshold=400,
    )  # fmt: skip
    run_verb("prove", path, "--replace")
    with segedge.load(path, backend="onnxruntime", strict=True) as one:
        assert one.checked is not None
    weights = bytearray((tmp_path / name).read_bytes())
    weights[0] ^= 1
    (tmp_path / name).write_bytes(weights)
    with pytest.raises(ModelError, match="not as it was exported"):
        segedge.load(path, backend="onnxruntime", strict=True)
