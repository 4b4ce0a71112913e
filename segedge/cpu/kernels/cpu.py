"""Which processor machine code is for, found out without LLVM."""

from __future__ import annotations

import os
import platform
import re

from segedge.errors import UsageError
from segedge.machine.cpu_facts import abilities, first_processor

_MODEL = (
    "vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU variant", "CPU part",
)  # fmt: skip
"""What decides which processor LLVM makes code for, on x86-64 and on ARM."""
_VECTORS = re.compile(r"(av|ss|fma|f16c|bmi|amx|v?aes|popcnt|abm|sve|asimd|fp|i8mm|bf16|dotprod)")
"""Abilities that code can ask for; the rest differs from one version of Linux to another."""
_SETTINGS = (
    "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX", "NUMBA_OPT",
    "NUMBA_LOOP_VECTORIZE", "NUMBA_SLP_VECTORIZE", "NUMBA_BOUNDSCHECK", "NUMBA_DEBUGINFO",
    "NUMBA_DEBUG_NRT",
)  # fmt: skip
"""What users may ask of Numba that changes machine code."""


def cpu_label() -> str:
    """Whom machine code is for, in a word: a CPU that was named, or this machine's kind."""
    return os.environ.get("NUMBA_CPU_NAME") or platform.machine()


def cpu_digest() -> str:
    """All that machine code depends on but its source and its compiler."""
    settings = [f"{name}={os.environ.get(name, '')}" for name in _SETTINGS]
    python = platform.python_version()
    if os.environ.get("NUMBA_CPU_NAME"):  # for machines of that kind, whichever this one is
        return " ".join([platform.machine(), python, *settings])
    return " ".join([*_this_cpu(), python, *settings])


def _this_cpu() -> list[str]:
    facts = first_processor()
    if not facts:  # not Linux
        from llvmlite import binding  # type: ignore[import-untyped]

        features = binding.get_host_cpu_features().flatten()
        return [platform.machine(), binding.get_host_cpu_name(), features]
    told = [facts.get(name, "") for name in _MODEL]
    return [platform.machine(), *told, *sorted(filter(_VECTORS.match, abilities()))]


def _has_half() -> bool:
    if os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES"):
        return False  # compiling for some other machine
    is_arm = platform.machine().lower() in ("aarch64", "arm64")
    return is_arm or "f16c" in abilities()


HAS_HALF = _has_half()
"""Whether the machine converts float16 itself; elsewhere LLVM would call a missing function."""


def check_features() -> None:
    """Refuse machine code that this CPU would die of; without these variables it is its own.

    Raises:
        UsageError: ``NUMBA_CPU_FEATURES`` asks for what the CPU does not have.
    """
    wanted = os.environ.get("NUMBA_CPU_FEATURES", "")
    asked = {word[1:] for word in wanted.split(",") if word.startswith("+")}
    if not asked:
        return
    from llvmlite import binding

    here = {name for name, there in binding.get_host_cpu_features().items() if there}
    if missing := sorted(asked - here):
        raise UsageError(
            "NUMBA_CPU_FEATURES asks for what this CPU does not have",
            facts={"missing": ", ".join(missing), "found": binding.get_host_cpu_name()},
            fix="unset it; NUMBA_CPU_NAME=generic makes kernels that run on every CPU",
        )
