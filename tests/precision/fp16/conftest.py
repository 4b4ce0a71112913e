"""Fixtures of the fp16 tests: the zoo, exported and converted once a session."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

for module in ("onnx", "onnxruntime"):
    pytest.importorskip(module, reason=f"{module} is not installed: segedge[export,cpu]")

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))  # for `tests.networks`, under plain pytest, too

Zoo = Callable[..., Any]


@pytest.fixture(scope="session")
def zoo() -> Zoo:
    """``zoo(name, dynamic=None)``: a network as ``onnx.ModelProto``."""
    import onnx

    from tests.networks import export_tiny

    def load(name: str, dynamic: Any = None) -> Any:
        return onnx.load(export_tiny(name, dynamic=dynamic))

    return load


@pytest.fixture(scope="session")
def halved(zoo: Zoo) -> Zoo:
    """``halved(name, dynamic=None)``: (fp32 model, fp16 model, report), converted once."""
    from precision_helpers import to_fp16

    from tests.networks import size_of, smooth_images

    done: dict[Any, Any] = {}

    def convert(name: str, dynamic: Any = None) -> Any:
        if (name, dynamic) not in done:
            model = zoo(name, dynamic)
            images = list(smooth_images(2, *size_of(name), seed=9))
            done[name, dynamic] = (model, *to_fp16(model, images=images))
        return done[name, dynamic]

    return convert
