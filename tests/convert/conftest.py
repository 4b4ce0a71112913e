from __future__ import annotations

import pytest

for module in ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime"):
    pytest.importorskip(module, reason=f"{module} is not installed: segedge[export,cpu]")


from tests.fast_export import hasten_exports  # noqa: E402

hasten_exports()
