"""What a figure of a GPU belongs to: the card, its clocks, the driver, the libraries."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import asdict
from typing import Any

from segedge.machine.gpu import Driver
from segedge.machine.optional import installed_version

_LIBRARIES = (
    "cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "tensorrt",
    "tensorrt_rtx_cu13_bindings", "onnxruntime-gpu", "torch", "cupy-cuda13x", "cupy-cuda12x",
    "numba", "numba-cuda", "pycuda",
)  # fmt: skip
_QUERY = (
    "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit",
    "temperature.gpu", "mig.mode.current", "persistence_mode",
)  # fmt: skip


def gpu_facts(driver: Driver) -> dict[str, Any]:
    """For results; clocks are those of the moment."""
    return {
        "gpu": asdict(driver.gpu) if driver.gpu else None,
        "driver_cuda": driver.cuda_text,
        "nvidia_smi": _nvidia_smi(),
        "gpu_libraries": {name: installed_version(name) for name in _LIBRARIES},
    }


def slug(driver: Driver) -> str:
    """The GPU's name for a file name."""
    name = driver.gpu.name if driver.gpu else "none"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _nvidia_smi() -> dict[str, str]:
    """Clocks and the like of the first GPU; empty where the tool is not there, as on Jetsons."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    try:
        done = subprocess.run(
            [tool, "-i", "0", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(_QUERY, values, strict=True)) if len(values) == len(_QUERY) else {}
