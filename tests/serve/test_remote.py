"""The remote backend against a server that speaks the protocol, with real networks behind it."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segedge
from segedge.backends.base import Backend
from segedge.errors import BackendError
from segedge.segment.segmenter import Segmenter
from segedge.serve.options import TritonOptions
from segedge.serve.repository import write_repository
from tests.serve.kserve import Networks, grpc_server
from tests.serve.models import write_batch_model
from tests.serve.started import IMAGE, Started
from tests.serve.test_steps import frame_of
from tests.small_model import run_verb


@pytest.mark.parametrize("memory", ["shm", "wire"])
def test_it_computes_what_the_local_one_does(server: Started, local: Backend, memory: Any) -> None:
    backend = server.open(memory=memory)
    (expected,) = local.run([IMAGE])
    for _ in range(3):
        (made,) = backend.run([IMAGE])
        np.testing.assert_array_equal(made, expected)
    into = np.zeros_like(expected)
    (same,) = backend.run([IMAGE], [into])
    assert same is into
    np.testing.assert_array_equal(into, expected)
    again = backend.run([-IMAGE], [made])
    np.testing.assert_array_equal(again[0], local.run([-IMAGE])[0])
    assert backend.specs == local.specs
    assert backend.memory == "host"
    assert (server.networks.shared > 0) == (memory == "shm")
    assert ("shared memory" in backend.description) == (memory == "shm")
    assert "small version 1" in backend.description


def test_results_do_not_share_memory_with_the_next_run(server: Started) -> None:
    backend = server.open(memory="shm")
    backend.run([IMAGE])
    (one,) = backend.run([IMAGE])
    kept = one.copy()
    backend.run([-IMAGE])
    np.testing.assert_array_equal(one, kept)


@pytest.mark.parametrize("way", ["auto", "remote:wire"])
def test_segmenters_need_no_local_file(server: Started, small: Path, way: str) -> None:
    """Card and classes come from the server; labels and overlay are the local ones'."""
    with (
        segedge.load(server.address(), backend=way) as remote,
        segedge.load(small, backend="onnxruntime") as here,
    ):
        assert remote.card.classes == ("dark", "bright")
        assert remote.backend_name == ("remote" if way == "auto" else way)
        for size in ((90, 160), (31, 17), (90, 160)):
            one, other = remote(frame_of(*size)), here(frame_of(*size))
            np.testing.assert_array_equal(one.labels, other.labels)
            np.testing.assert_array_equal(one.overlay(), other.overlay())


def test_shared_memory_is_given_back(server: Started) -> None:
    def mine() -> set[str]:
        return {path.name for path in Path("/dev/shm").glob(f"segedge-{os.getpid()}-*")}

    before = mine()
    backend = server.open(memory="shm")
    backend.run([IMAGE])
    assert mine() - before
    assert server.networks.regions
    backend.close()
    assert mine() == before
    assert not server.networks.regions


def test_a_server_that_does_not_see_the_memory(server: Started, local: Backend) -> None:
    server.networks.takes_memory = False
    backend = server.open()
    assert "shared memory" not in backend.description
    np.testing.assert_array_equal(backend.run([IMAGE])[0], local.run([IMAGE])[0])
    with pytest.raises(BackendError, match="does not see the shared memory") as caught:
        server.open(memory="shm")
    assert "remote:wire" in str(caught.value)


def test_any_batch(protocol: str, tmp_path: Path) -> None:
    model = write_batch_model(tmp_path / "street.onnx")
    write_repository(model, tmp_path / "repo")
    with ExitStack() as stack:
        server = Started(protocol, Networks(tmp_path / "repo"), stack)
        backend = server.open("street")
        assert backend.specs[0][0].shape == (None, 3, 48, 64)
        for count in (1, 3, 3, 2):
            images = np.concatenate([IMAGE * k for k in range(count)])
            (made,) = backend.run([images])
            assert made.shape == (count, 2, 6, 8)


def test_other_threads(server: Started, local: Backend) -> None:
    """A pipeline opens a segmenter in one thread and runs it in another."""
    backend = server.open(memory="wire")
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.extend(backend.run([IMAGE])))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(made[0], local.run([IMAGE])[0])


def test_the_command(networks: Networks, tmp_path: Path, small: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), frame_of(90, 160))
    there = tmp_path / "there.png"
    with grpc_server(networks) as port:
        address = f"grpc://127.0.0.1:{port}/small"
        done = run_verb("run", address, tmp_path / "a.png", "-o", there, "--masks", "labels")
    assert f"kserve-test 1.0 at 127.0.0.1:{port} (gRPC, shared memory, small" in done.stdout
    with segedge.load(small, backend="onnxruntime") as here:
        expected = here(cv2.imread(str(tmp_path / "a.png"))).labels
    np.testing.assert_array_equal(cv2.imread(str(there), cv2.IMREAD_UNCHANGED), expected)


def test_inspect_asks_the_server(networks: Networks) -> None:
    with grpc_server(networks) as port:
        address = f"grpc://127.0.0.1:{port}/small"
        done = run_verb("inspect", address)
    assert "kserve-test 1.0" in done.stdout
    assert "x 1x3x48x64 float32" in done.stdout
    assert "dark, bright" in done.stdout
    assert f"segedge run {address}" in done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Fast-SCNN with its card, and images of CamVid."""
    shared = Path(__file__).parents[3] / "shared"
    model = shared / "models" / "fastscnn_camvid.onnx"
    images = sorted((shared / "data" / "camvid" / "val" / "images").glob("*"))[:2]
    if not model.is_file() or not images:
        pytest.skip("no ../shared/models and ../shared/data")
    pytest.importorskip("torch", reason="torch is not installed: segedge[export]")
    from segedge.convert.export import export
    from segedge.convert.options import ExportOptions

    carded = tmp_path_factory.mktemp("trained") / "fastscnn.onnx"
    export(model, carded, options=ExportOptions(classes="camvid"))
    return carded, images


def test_the_trained_network(
    protocol: str, tmp_path: Path, trained: tuple[Path, list[Path]]
) -> None:
    """The same masks as on the backend of this machine, byte for byte."""
    import cv2

    carded, images = trained
    write_repository(carded, tmp_path / "repo", options=TritonOptions(frames=False))
    with ExitStack() as stack:
        server = Started(protocol, Networks(tmp_path / "repo"), stack)
        remote = stack.enter_context(segedge.load(server.address("fastscnn")))
        here = stack.enter_context(segedge.load(carded, backend="onnxruntime", threads=1))
        for path in images:
            image = cv2.imread(str(path))
            assert image is not None
            one, other = remote(image), here(image)
            assert len(np.unique(other.labels)) > 4
            np.testing.assert_array_equal(one.labels, other.labels)
            np.testing.assert_array_equal(one.overlay(), other.overlay())


def test_a_segmenter_of_ones_own(server: Started) -> None:
    backend = server.open()
    assert backend.card is not None
    with Segmenter(backend.card, backend) as segmenter:
        assert segmenter(frame_of(48, 64)).labels.shape == (48, 64)
