"""Where a network computes on ONNX Runtime: in memory that its first run has touched, its own."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segedge.backends.onnxruntime import OnnxRuntimeBackend
from segedge.card.card import ModelCard

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime", minversion="1.23")

MEASURED = """
import gc, json, resource, sys
import numpy as np
from pathlib import Path
from segedge.backends.onnxruntime import OnnxRuntimeBackend

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

tensor = np.ones((1, 3, 512, 1024), np.float32)
out = np.ones((1, 5, 64, 128), np.float32)
openings = []
for _ in range(2):
    backend = OnnxRuntimeBackend(Path(sys.argv[1]), threads=1)
    pages = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        backend.run([tensor], [out])
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    opened = held()
    backend.close()
    del backend
    gc.collect()
    openings.append({"pages": pages, "opened": opened, "closed": held()})
print(json.dumps(openings))
"""
"""Pages that are new to each run of a network, and the bytes that the process holds."""


@pytest.fixture(scope="module")
def wide_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 20 MB of features, of several sizes, as networks have them; with a card."""
    from onnx import TensorProto, helper, numpy_helper

    random, nodes, weights, name = np.random.default_rng(1), [], [], "x"
    for number, (inner, outer, stride) in enumerate(
        ((3, 24, 2), (24, 32, 1), (32, 48, 2), (48, 64, 1), (64, 64, 2), (64, 5, 1))
    ):
        values = random.standard_normal((outer, inner, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values / 30, f"w{number}"))
        nodes.append(
            helper.make_node(
                "Conv", [name, f"w{number}"], [f"y{number}"],
                pads=[1] * 4, strides=[stride] * 2,
            )
        )  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"y{number}"], [f"z{number}"]))
        name = f"z{number}"
    graph = helper.make_graph(
        nodes, "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 512, 1024])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5, 64, 128])],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    names = tuple("abcde")
    card = ModelCard(names, tuple((n, n, n) for n in range(5)), 512, 1024, stride=8)
    onnx.helper.set_model_props(model, card.to_metadata())
    path = tmp_path_factory.mktemp("wide") / "wide.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def openings(wide_network: Path) -> list[dict[str, Any]]:
    words = [sys.executable, "-c", MEASURED, str(wide_network)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_later_runs_find_the_memory_of_the_first(openings: list[dict[str, Any]]) -> None:
    for opening in openings:
        first, *later = opening["pages"]
        assert first > 4000, "it is not memory of another session"
        assert max(later) < first / 8, openings


def test_memory_goes_with_its_session(openings: list[dict[str, Any]]) -> None:
    first, second = openings
    for opening in openings:
        assert opening["opened"] - opening["closed"] > 15e6, openings
    assert abs(second["opened"] - first["opened"]) < 5e6, openings


def test_sessions_that_open_at_once_compute_the_same(wide_network: Path) -> None:
    tensor = np.random.default_rng(0).standard_normal((1, 3, 512, 1024)).astype(np.float32)

    def computed(_: int) -> np.ndarray:
        backend = OnnxRuntimeBackend(wide_network, threads=1)
        (first,) = backend.run([tensor])
        (second,) = backend.run([tensor])
        backend.close()
        assert np.array_equal(first, second)
        return first

    with ThreadPoolExecutor(4) as threads:
        alone, *others = threads.map(computed, range(6))
    assert all(np.array_equal(alone, other) for other in others)


@pytest.mark.parametrize("version", ["1.20.1", "1.22.0"])
def test_versions_that_cannot_replace_it_lay_out_their_own(
    wide_network: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("already registered")

    laid_out = OnnxRuntimeBackend(wide_network, threads=1)
    (spec,) = laid_out.specs[0]
    tensor = np.ones([1 if axis is None else axis for axis in spec.shape], spec.dtype)
    (expected,) = laid_out.run([tensor])
    laid_out.close()
    monkeypatch.setattr("onnxruntime.__version__", version)
    monkeypatch.setattr("onnxruntime.create_and_register_allocator", refused)
    backend = OnnxRuntimeBackend(wide_network, threads=1)
    (found,) = backend.run([tensor])
    backend.close()
    np.testing.assert_array_equal(found, expected)
