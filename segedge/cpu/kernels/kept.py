"""Where machine code of kernels is kept: a file a kernel and signature in segedge's cache folder.

Numba's own cache keeps an index beside each source file: it ends the program where it finds no
folder that it can write, two processes that write one index can give a kernel the code of another,
and an edit of a file that a kernel calls into goes unnoticed. Here the name of a file says all that
its code depends on, so nothing is ever stale or in anybody's way.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from segedge.cpu.kernels.cpu import check_features, cpu_digest, cpu_label
from segedge.machine.cache_folder import cache_path, keep, read_kept
from segedge.machine.optional import installed_version
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


def file_of(function: Callable[..., Any], signature: str) -> Path:
    """Where the machine code of a function for some types is kept."""
    name = function.__qualname__
    source = Path(function.__code__.co_filename)
    text = f"{function.__module__}.{name} {signature}"
    digest = hashlib.sha256(text.encode() + _digest(source)).hexdigest()
    return own_kernels() / f"{name}-{digest[:24]}.kernel"


def kept_code(file: Path, is_whole: Callable[[bytes], bool] | None = None) -> bytes | None:
    """What `keep_code` wrote; None: it must be compiled. NotKeptError: within `only_kept`."""
    data = read_kept(file)
    if data is not None and (is_whole is None or is_whole(data)):
        _mark_used(file.parent)
        return data
    if getattr(_thread, "compiles_nothing", False):
        raise NotKeptError(file.name)
    return None


def keep_code(file: Path, data: bytes) -> None:
    """Keep machine code; what nobody uses any more goes."""
    if not file.parent.is_dir():
        _drop_unused(file.parents[1])
    keep(file, data)


@cache
def kernel_folder_name() -> str:
    """What all kernels of a process depend on: the CPU, the compilers, every source of theirs."""
    check_features()
    versions = [installed_version(name) for name in ("numba", "llvmlite")]
    texts = [cpu_digest(), __version__, *map(str, versions)]
    seal = hashlib.sha256("\n".join(texts).encode())
    for source in sorted(_SOURCES.rglob("*.py")):
        seal.update(_digest(source))
    return f"{cpu_label()}-{seal.hexdigest()[:12]}"


def own_kernels() -> Path:
    """The folder of the kernels that this process compiles or finds."""
    return cache_path("cpu") / kernel_folder_name()


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
