"""What cannot be had from a server is said: nobody there, another model, another shape."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segedge
from segedge.card.card import ModelCard
from segedge.errors import BackendError, CardError
from segedge.remote import RemoteBackend, RemoteOptions
from tests.serve.kserve import Networks, http_server
from tests.serve.started import IMAGE, Started
from tests.serve.test_steps import frame_of


def test_a_server_that_is_not_there(protocol: str) -> None:
    with socket.socket() as deaf:  # bound, so that nobody else answers there
        deaf.bind(("127.0.0.1", 0))
        address = f"{protocol}://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(BackendError, match=f"no server at {address}") as caught:
            segedge.load(f"{address}/small")
    assert "efused" in caught.value.facts["found"]
    assert "tritonserver" in str(caught.value.fix)


def test_a_server_that_never_answers(protocol: str) -> None:
    """It takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{protocol}://127.0.0.1:{silent.getsockname()[1]}/small"
        options = RemoteOptions(connect_seconds=0.2, timeout_seconds=0.2)
        with pytest.raises(BackendError, match="no server at") as caught:
            RemoteBackend(address, options=options)
    assert caught.value.facts["found"] == "no answer within 0.2 s"


def test_something_else_answers(tmp_path: Path) -> None:
    networks = Networks(tmp_path)
    with http_server(networks) as port, pytest.raises(BackendError) as caught:
        segedge.load(f"http://127.0.0.1:{port}/gateway/v2/models/small")
    assert "not as an inference server" in caught.value.facts["found"]
    with http_server(networks) as port, pytest.raises(BackendError, match="no server at grpc"):
        segedge.load(f"grpc://127.0.0.1:{port}/small")


def test_no_such_model(server: Started) -> None:
    with pytest.raises(BackendError, match="has no model 'smal'; did you mean 'small'") as caught:
        server.open("smal")
    assert caught.value.facts["models"] == "small, small_frames"


def test_models_that_are_not_ready(server: Started) -> None:
    with pytest.raises(BackendError, match="small_tail is not ready") as caught:
        server.open("small_tail")
    assert caught.value.facts["says"] == "no module named segedge"
    with pytest.raises(BackendError, match="small/7 is not ready") as caught:
        server.open("small/7")
    assert caught.value.facts["says"] == "it has no version 7"


def test_the_ensemble_is_not_the_network(server: Started) -> None:
    with pytest.raises(BackendError, match="is an ensemble: it takes frames") as caught:
        server.open("small_frames")
    assert caught.value.fix == server.address("small")


def test_a_server_without_configurations(server: Started, small: Path) -> None:
    """Other servers than Triton: the network runs, and the card comes from a file."""
    server.networks.has_config = False
    with pytest.raises(CardError, match="the server tells no card of small") as caught:
        segedge.load(server.address())
    assert "--card" in str(caught.value)
    card = ModelCard(("night", "day"), ((0, 0, 0), (9, 9, 9)), 48, 64, stride=8)
    with segedge.load(server.address(), card=card) as segmenter:
        assert set(segmenter(frame_of(90, 160)).class_pixels) == {"night", "day"}
    with pytest.raises(BackendError, match="has no model 'other'") as caught2:
        server.open("other")
    assert "it does not tell" in caught2.value.facts["models"]


def test_a_card_of_other_classes(server: Started) -> None:
    """Given by hand, and not of this network."""
    card = ModelCard(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), 48, 64, stride=8)
    with pytest.raises(CardError, match="the card does not fit the network's output"):
        segedge.load(server.address(), card=card)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: {"logits": made["logits"][:, :1]},
        lambda made: {"logits": made["logits"][0]},
        lambda made: {"logits": made["logits"].astype(np.float16)},
    ],
    ids=["channels", "axes", "type"],
)
@pytest.mark.parametrize("memory", ["shm", "wire"])
def test_another_shape_than_promised(
    server: Started, memory: Any, change: Callable[[Any], Any]
) -> None:
    backend = server.open(memory=memory)
    backend.run([IMAGE])
    server.networks.change = change
    with pytest.raises(BackendError, match="answers another shape than it promised") as caught:
        backend.run([IMAGE])
    assert caught.value.facts["expected"] == "logits 1x2x6x8 float32"


def test_what_the_server_refuses(server: Started) -> None:
    backend = server.open()
    with pytest.raises(BackendError, match="failed while running the network") as caught:
        backend.run([IMAGE[:, :, :40]])
    assert caught.value.facts["expected"] == "x 1x3x48x64 float32"
    assert "onnx runtime error" in caught.value.facts["says"]
    backend.run([IMAGE])


def test_no_answer_in_time(server: Started) -> None:
    """Said at once, and not sent again."""
    backend = server.open(timeout_seconds=1.5)
    asked, release = server.networks.requests, threading.Event()
    server.networks.before = lambda feeds: release.wait(30) or None
    try:
        with pytest.raises(BackendError, match=r"small did not answer within 1\.5 s") as caught:
            backend.run([IMAGE])
    finally:
        release.set()
    assert "?timeout=4.5" in str(caught.value.fix)
    assert server.networks.requests == asked + 1


def test_without_tritonclient(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(
        BackendError, match="tritonclient is needed to talk to grpc://box"
    ) as caught:
        segedge.load("grpc://box/street")
    assert caught.value.fix == "pip install 'segedge[remote]'"
