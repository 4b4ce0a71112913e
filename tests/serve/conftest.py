"""Serving is tested on real model files, by the server's own schema and a real protocol."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for module in ("onnx", "onnxruntime", "tritonclient.grpc"):
    pytest.importorskip(module, reason=f"{module} is missing: pip install 'segedge[cpu,remote]'")

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests.serve.models`


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model without a batch axis."""
    from tests.small_model import write_model

    return write_model(tmp_path / "small.onnx", has_card=True)


@pytest.fixture
def batched(tmp_path: Path) -> Path:
    """A model with a batch axis."""
    from tests.serve.models import write_batch_model

    return write_batch_model(tmp_path / "street.onnx")
