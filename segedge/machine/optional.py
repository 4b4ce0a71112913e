"""The one place where optional libraries are imported.

Everything outside the base install (onnxruntime, openvino, torch, onnx ...) goes through
`require`, so a missing library is always the same message with the same remedy.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import time
from typing import Any

from segedge.errors import MissingDependencyError

_EXTRA_OF = {
    "onnxruntime": "cpu",
    "onnxruntime-gpu": "gpu",
    "cuda": "cuda",
    "starlette": "live",
    "uvicorn": "live",
    "websockets": "live",
    "tritonclient": "remote",
    "google": "triton",
    "pyarrow": "batch",
    "fsspec": "batch",
    "ray": "ray",
    "openvino": "openvino",
    "torch": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "transformers": "huggingface",
    "PIL": "huggingface",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "rtx",
    "tensorrt_rtx_bindings": "rtx",
}
"""Import name of each optional library, to the extra that installs it."""


_QUIETLY = {"onnxruntime": {"ORT_DISABLE_TELEMETRY": "1"}}
"""Libraries that tell their makers what they run, to what they ask for before they are imported.

ONNX Runtime's official packages do since 1.29, on Linux and macOS, too: they keep an identifier and
a database in the user's folders. Whoever set the variable has decided already."""
IMPORT_MS: dict[str, float] = {}
"""What the first import of each library took here, in milliseconds; `segedge bench` tells it."""


def require(module: str, *, purpose: str) -> Any:
    """Import an optional library or say how to install it.

    Args:
        module: Import name, possibly dotted (``"onnx.numpy_helper"``).
        purpose: What needs it, completing "... is needed to <purpose>".

    Returns:
        The module. Typed Any: these libraries have no or partial type stubs.

    Raises:
        MissingDependencyError: The library is not installed, or is installed and broken.
    """
    root = module.partition(".")[0]
    is_first, start_ns = module not in sys.modules, time.perf_counter_ns()
    for name, value in _QUIETLY.get(root, {}).items():
        os.environ.setdefault(name, value)
    try:
        imported = importlib.import_module(module)
        if is_first:
            IMPORT_MS[module] = (time.perf_counter_ns() - start_ns) / 1e6
        return imported
    except ImportError as error:
        installed = importlib.util.find_spec(root) is not None
        raise MissingDependencyError(
            f"{root} is needed to {purpose}",
            facts={"found": f"installed, but it does not import: {error}"}
            if installed
            else {"found": "not installed"},
            fix=install_command(root),
        ) from error


def await_import(module: str) -> None:
    """Wait for the thread that is importing an optional library, if one is.

    Of other names nothing is known: a program's own module may have one, and import it just now
    by the thread that waits for this one.
    """
    if module in _EXTRA_OF and module in sys.modules:
        importlib.import_module(module)


def install_command(module: str) -> str:
    """The shell command that installs an optional library with its extra."""
    extra = _EXTRA_OF.get(module)
    return f"pip install 'segedge[{extra}]'" if extra else f"pip install {module}"


def installed_version(*distributions: str) -> str | None:
    """Version of the first installed distribution of these names, without importing it."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def is_importable(module: str) -> bool:
    """Whether the library can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None


__all__ = [
    "IMPORT_MS",
    "await_import",
    "install_command",
    "installed_version",
    "is_importable",
    "require",
]
