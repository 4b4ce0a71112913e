"""`njit` whose machine code is kept in segedge's cache folder, one file a kernel and signature.

Numba's own cache keeps an index beside each source file: it ends the program where it finds no
folder that it can write, two processes that write one index can give a kernel the code of another,
and an edit of a file that a kernel calls into goes unnoticed. Here the name of a file says all that
its code depends on, so nothing is ever stale or in anybody's way.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding  # type: ignore[import-untyped]
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from segedge.errors import UsageError
from segedge.machine.cache_folder import cache_path, keep, read_kept
from segedge.version import __version__

_SOURCES = Path(__file__).parents[1]
_UNUSED_SECONDS = 30 * 24 * 3600
_thread = threading.local()


class NotKeptError(Exception):
    """A kernel would have to be compiled, within `only_kept`."""


@contextmanager
def only_kept() -> Iterator[None]:
    """In this thread kernels are loaded, or `NotKeptError` is raised; none is compiled."""
    _thread.compiles_nothing = True
    try:
        yield
    finally:
        _thread.compiles_nothing = False


def njit(*, cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit`; ``cache`` keeps the machine code."""
    check_cpu()

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        if cache:
            dispatcher._cache = KernelCache(function)
        return dispatcher

    return decorate


class KernelCache(NullCache):  # type: ignore[misc]
    """What Numba asks for the machine code of one kernel, a function without a closure."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @property
    def cache_path(self) -> str:
        """The folder of all CPUs and versions."""
        return str(cache_path("cpu"))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The kernel for these types, or None where it must be compiled."""
        target_context.refresh()
        file = self._file(sig, target_context.codegen())
        data = read_kept(file)
        if data is None:
            if getattr(_thread, "compiles_nothing", False):
                raise NotKeptError(file.name)
            return None
        _mark_used(file.parent)
        return CompileResult._rebuild(target_context, *pickle.loads(data))

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a kernel; code with addresses of this process in it cannot be."""
        if not data.library.has_dynamic_globals:
            file = self._file(sig, data.codegen)
            if not file.parent.is_dir():
                _drop_unused(file.parents[1])
            keep(file, dumps(data._reduce()))

    def _file(self, sig: Any, codegen: Any) -> Path:
        name = self._function.__qualname__
        text = f"{self._function.__module__}.{name} {sig}"
        source = Path(self._function.__code__.co_filename)
        digest = hashlib.sha256(text.encode() + _digest(source)).hexdigest()
        return kernel_folder(codegen.magic_tuple()) / f"{name}-{digest[:24]}.kernel"


@cache
def kernel_folder_name(machine: tuple[str, ...]) -> str:
    """What all kernels of a process depend on: the CPU, the compilers, every source of theirs."""
    texts = [*machine, config.CPU_NAME, config.CPU_FEATURES, platform.python_version()]
    texts += [numba.__version__, __version__]
    seal = hashlib.sha256("\n".join(map(str, texts)).encode())
    for source in sorted(_SOURCES.rglob("*.py")):
        seal.update(_digest(source))
    return f"{machine[1]}-{seal.hexdigest()[:12]}"


def kernel_folder(machine: tuple[str, ...]) -> Path:
    """The folder of a target's kernels: LLVM's triple, CPU name and features."""
    return cache_path("cpu") / kernel_folder_name(machine)


def own_kernels() -> Path:
    """The folder of the kernels that this process compiles or finds."""
    return kernel_folder(cpu_target.target_context.codegen().magic_tuple())


@cache
def check_cpu() -> None:
    """Refuse machine code that this CPU would die of; without these variables it is its own.

    Raises:
        UsageError: ``NUMBA_CPU_FEATURES`` asks for what the CPU does not have.
    """
    asked = {word[1:] for word in (config.CPU_FEATURES or "").split(",") if word.startswith("+")}
    here = {name for name, there in binding.get_host_cpu_features().items() if there}
    if missing := sorted(asked - here):
        raise UsageError(
            "NUMBA_CPU_FEATURES asks for what this CPU does not have",
            facts={"missing": ", ".join(missing), "found": binding.get_host_cpu_name()},
            fix="unset it; NUMBA_CPU_NAME=generic makes kernels that run on every CPU",
        )


@cache
def _digest(source: Path) -> bytes:
    return hashlib.sha256(source.read_bytes() if source.is_file() else b"").digest()


@cache
def _mark_used(folder: Path) -> None:
    with suppress(OSError):  # baked into an image, or of another user
        os.utime(folder)


def _drop_unused(folder: Path) -> None:
    """Delete kernels of other versions and CPUs that nobody has used for a month."""
    old = time.time() - _UNUSED_SECONDS
    with suppress(OSError):  # another process did it, or the folder is read-only
        for entry in os.scandir(folder):
            if entry.stat().st_mtime < old:
                shutil.rmtree(entry.path, ignore_errors=True)
