"""Serving is tested on real model files, by the server's own schema and a real protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="pip install 'segedge[cpu,remote]'")
pytest.importorskip("onnxruntime", reason="pip install 'segedge[cpu,remote]'")
pytest.importorskip("tritonclient.grpc", reason="pip install 'segedge[cpu,remote]'")

from segedge.backends.onnxruntime import OnnxRuntimeBackend
from segedge.serve.repository import write_repository
from tests.serve.kserve import Networks
from tests.serve.models import write_batch_model
from tests.serve.started import SERVERS, Started
from tests.small_model import write_model


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model without a batch axis."""
    return write_model(tmp_path / "small.onnx", has_card=True)


@pytest.fixture
def batched(tmp_path: Path) -> Path:
    """A model with a batch axis."""
    return write_batch_model(tmp_path / "street.onnx")


@pytest.fixture(params=SERVERS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def networks(small: Path, tmp_path: Path) -> Networks:
    write_repository(small, tmp_path / "repo")
    return Networks(tmp_path / "repo")


@pytest.fixture
def server(protocol: str, networks: Networks) -> Iterator[Started]:
    with ExitStack() as stack:
        yield Started(protocol, networks, stack)


@pytest.fixture
def local(small: Path) -> Iterator[OnnxRuntimeBackend]:
    backend = OnnxRuntimeBackend(small, threads=1)
    yield backend
    backend.close()
