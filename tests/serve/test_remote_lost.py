"""A server that is lost, too busy, or comes back with something else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from segedge.backends.base import Backend
from segedge.card.card import ModelCard
from segedge.errors import BackendError, CardError
from segedge.serve.options import TritonOptions
from segedge.serve.repository import write_repository
from tests.serve.kserve import RefusedError
from tests.serve.started import IMAGE, Started
from tests.small_model import write_model


class Waker(logging.Handler):
    """Starts a server again when the client says that it is lost."""

    def __init__(self, start: Callable[[], None]) -> None:
        super().__init__()
        self._start = start

    def emit(self, record: logging.LogRecord) -> None:
        if "is lost" in record.getMessage():
            self._start()


@pytest.mark.parametrize("memory", ["shm", "wire"])
def test_a_server_that_comes_back(
    server: Started, local: Backend, memory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    backend = server.open(memory=memory, patience_seconds=60)
    backend.run([IMAGE])
    backend.run([IMAGE])
    server.stop()
    waker = Waker(server.start)
    logging.getLogger("segedge").addHandler(waker)
    try:
        with caplog.at_level("INFO", "segedge"):
            (made,) = backend.run([IMAGE])
    finally:
        logging.getLogger("segedge").removeHandler(waker)
    np.testing.assert_array_equal(made, local.run([IMAGE])[0])
    assert "is lost" in caplog.text
    assert "is back" in caplog.text
    backend.run([IMAGE])


def test_a_server_that_stays_away(server: Started) -> None:
    backend = server.open(patience_seconds=0.3)
    backend.run([IMAGE])
    server.stop()
    with pytest.raises(BackendError, match="was lost and did not come back") as caught:
        backend.run([IMAGE])
    assert caught.value.facts["waited"] == "0.3 s"
    assert "?patience=60" in str(caught.value.fix)


def test_a_server_that_is_too_busy_for_a_moment(server: Started, local: Backend) -> None:
    """A full queue is no loss: the frame is sent again."""
    backend = server.open(patience_seconds=60)
    refusals = iter([True, True])

    def full(feeds: Any) -> None:
        if next(refusals, False):
            raise RefusedError("Exceeds maximum queue size", "UNAVAILABLE")

    server.networks.before = full
    np.testing.assert_array_equal(backend.run([IMAGE])[0], local.run([IMAGE])[0])


def test_closing_ends_the_search(server: Started) -> None:
    backend = server.open(patience_seconds=600)
    server.stop()
    threading.Timer(0.1, backend._ended.set).start()
    with pytest.raises(BackendError, match="was lost"):
        backend.run([IMAGE])


def rewritten(path: Path, name: str, *, classes: tuple[str, ...], channels: int = 2) -> Path:
    """A model with other classes, or other channels, to take another's place."""
    model = write_model(path / f"{name}.onnx", has_card=False)
    proto = onnx.load(model)
    if channels != 2:
        weights = proto.graph.initializer[0]
        weights.CopyFrom(
            onnx.numpy_helper.from_array(np.ones((channels, 3, 1, 1), np.float32), weights.name)
        )
        proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = channels
    card = ModelCard(classes, ((0, 0, 0),) * len(classes), 48, 64, stride=8)
    onnx.helper.set_model_props(proto, card.to_metadata())
    onnx.save(proto, model)
    return model


def test_another_model_comes_back(server: Started, tmp_path: Path) -> None:
    backend = server.open(patience_seconds=60, memory="shm")
    backend.run([IMAGE])
    backend.run([IMAGE])
    server.stop()
    other = rewritten(tmp_path, "small", classes=("night", "day"))
    write_repository(other, tmp_path / "repo", options=TritonOptions(force=True))
    server.start()
    with pytest.raises(CardError, match="has another card now") as caught:
        backend.run([IMAGE])
    assert caught.value.facts["differ"] == "classes, palette_rgb"


def test_another_network_comes_back(server: Started, tmp_path: Path) -> None:
    backend = server.open(patience_seconds=60)
    server.stop()
    other = rewritten(tmp_path, "small", classes=("a", "b", "c"), channels=3)
    write_repository(other, tmp_path / "repo", options=TritonOptions(force=True))
    server.start()
    with pytest.raises(BackendError) as caught:
        backend.run([IMAGE])
    assert "1x3x6x8" in str(caught.value) or "logits" in str(caught.value)


def test_a_new_version_of_the_same_classes(server: Started, small: Path, tmp_path: Path) -> None:
    backend = server.open()
    backend.run([IMAGE])
    write_repository(small, tmp_path / "repo", options=TritonOptions(version=2))
    backend.run([IMAGE])
    other = rewritten(tmp_path, "small", classes=("night", "day"))
    write_repository(other, tmp_path / "repo", options=TritonOptions(version=3, force=True))
    with pytest.raises(CardError, match="has another card now"):
        backend.run([IMAGE])
