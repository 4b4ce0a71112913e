from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

for module in ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime"):
    pytest.importorskip(module, reason=f"{module} is not installed: segedge[export,cpu]")


@pytest.fixture(autouse=True, scope="session")
def _fast_torch() -> Iterator[None]:
    """One thread, and torch's exporter builds its table of operators once, not an export."""
    import torch

    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        build = functools.cache(ONNXRegistry.from_torchlib)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(build))
    except (ImportError, AttributeError):
        pass  # a private place: where it has moved, the tests are only slower
    yield
    patch.undo()
