from __future__ import annotations

from pathlib import Path

import pytest

for module in ("onnx", "onnxruntime"):
    pytest.importorskip(module, reason=f"{module} is not installed: segedge[export,cpu]")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from quantize_nets import save

    return save(tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from quantize_nets import pictures

    return pictures(tmp_path_factory.mktemp("calibration") / "images")
