"""PyTorch's exporter without what it does anew for each export."""

from __future__ import annotations

import functools


def hasten_exports() -> None:
    """Build its table of operators, and look through all operators there are, once a process."""
    try:
        from torch._export import utils
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        build, look = ONNXRegistry.from_torchlib, utils._materialize_cpp_cia_ops
    except (ImportError, AttributeError):
        return  # private places: where they have moved, the tests are only slower
    if not hasattr(look, "cache_info"):
        ONNXRegistry.from_torchlib = staticmethod(functools.cache(build))
        utils._materialize_cpp_cia_ops = functools.cache(look)
