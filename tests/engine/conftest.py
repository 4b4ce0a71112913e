"""Engines are built for real, on the CPU, by TensorRT-RTX."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from segedge.engine.builder.build import EngineBuild, build_engine
from segedge.engine.cache import EngineCache
from segedge.engine.flavour import Flavour, is_installed, load_flavour
from segedge.engine.options import BuildOptions

for module in ("onnx", "onnxruntime"):
    pytest.importorskip(module, reason=f"{module} is not installed: segedge[export,cpu]")

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests.engine.graphs`


@pytest.fixture(scope="session")
def rtx() -> Flavour:
    """The real library; `make test` installs it, so only a hand-made environment skips.

    With SEGEDGE_REQUIRE_RTX set, its absence fails wherever there are wheels of it.
    """
    if not is_installed("tensorrt_rtx"):
        if os.environ.get("SEGEDGE_REQUIRE_RTX") and platform.machine() == "x86_64":
            pytest.fail("SEGEDGE_REQUIRE_RTX is set and TensorRT-RTX is not installed")
        pytest.skip("TensorRT-RTX is not installed: pip install 'segedge[rtx]'")
    return load_flavour("tensorrt_rtx")


@pytest.fixture
def cache(own_cache: Path) -> EngineCache:
    """A cache of this test's own; the default one is the same folder."""
    return EngineCache.default()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small network with a card."""
    from tests.engine.graphs import CARD, conv_model, save

    return save(conv_model(), tmp_path / "model.onnx", card=CARD)


@pytest.fixture
def make(rtx: Flavour, model: Path, cache: EngineCache) -> Any:
    """Builds `model` into `cache`."""

    def build(options: BuildOptions | None = None, **more: Any) -> EngineBuild:
        return build_engine(model, **{"options": options, "flavour": rtx, "cache": cache, **more})

    return build
