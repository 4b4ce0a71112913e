"""The engine cache: engines are compile products of an ONNX file, kept until something changes.

An entry is three files in one folder: ``KEY.engine`` (the pure plan), ``KEY.engine.json`` (its
facts) and ``KEY.lock``. KEY is a SHA-256 over everything that the engine depends on. The folder is
`machine.cache_folder` chooses.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from segedge.engine.facts import SCHEMA, EngineFacts
from segedge.engine.file import (
    EngineFile,
    facts_path,
    kernels_path,
    read_engine,
    read_facts_beside,
    sha256,
    write_engine,
)
from segedge.engine.flavour import Flavour
from segedge.engine.options import BuildOptions
from segedge.engine.source import EngineSource
from segedge.engine.versions import checked_targets, device_key
from segedge.errors import SegedgeError
from segedge.machine.cache_folder import cache_path, make_folder
from segedge.machine.files import replace_file
from segedge.machine.gpu import Gpu
from segedge.version import __version__

DEFAULT_LIMIT_BYTES = 4 * 10**9
_STALE_TEMPORARY_SECONDS = 3600


@dataclass(frozen=True)
class CacheEntry:
    """One engine of the cache."""

    key: str
    path: Path
    facts: EngineFacts
    size_bytes: int
    used: float
    """When it was last loaded or written, seconds since the epoch."""


class EngineCache:
    """A folder of engines, shared by processes, bounded in size; the least recently used go first.

    Whatever fails in it (read-only, full, on a file system without locks) costs a rebuild and one
    warning, never the result.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """Use a folder, which is made when the first engine is stored.

        Above ``limit_bytes`` the least recently used engines are deleted.
        """
        self.folder = folder
        self.limit_bytes = limit_bytes

    @classmethod
    def default(cls) -> EngineCache:
        """The user's cache; ``SEGEDGE_CACHE_DIR`` names another folder."""
        return cls(cache_path("engines"))

    def path_of(self, key: str) -> Path:
        """Where the plan of a key is or would be."""
        return self.folder / f"{key}.engine"

    @contextlib.contextmanager
    def locked(self, key: str, *, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a key's lock: of several processes that want one engine, one builds it.

        ``waiting`` is called once if another process holds it. OSError where the folder cannot be
        written or cannot lock.
        """
        make_folder(self.folder)
        with (self.folder / f"{key}.lock").open("a") as stream:
            _lock(stream, waiting)
            try:
                yield
            finally:
                fcntl.flock(stream, fcntl.LOCK_UN)

    def load(self, key: str) -> EngineFile | None:
        """An engine of the cache, whole and checked, or None where there is none."""
        path = self.path_of(key)
        if not path.is_file():
            return None
        file = read_engine(path)
        with contextlib.suppress(OSError):
            os.utime(facts_path(path))
        return file

    def store(self, key: str, plan: bytes, facts: EngineFacts) -> Path:
        """Keep an engine and make room by deleting others; on OSError the cache is as before."""
        make_folder(self.folder)
        self._sweep_temporaries()
        path = self.path_of(key)
        # Kernels that were compiled for another plan of this key are of no use.
        kernels_path(path).unlink(missing_ok=True)
        write_engine(path, plan, facts)
        self._evict(keep=key)
        return path

    def entries(self) -> list[CacheEntry]:
        """Every readable engine, the most recently used first."""
        found = []
        for used, size, path in self._by_use():
            with contextlib.suppress(SegedgeError, OSError):
                if (facts := read_facts_beside(path)) is not None:
                    found.append(CacheEntry(path.stem, path, facts, size, used))
        return found

    def _by_use(self) -> list[tuple[float, int, Path]]:
        """When each engine was used last, its bytes and its plan, the most recent first."""
        found = []
        for path in self.folder.glob("*.engine"):
            with contextlib.suppress(OSError):
                beside = facts_path(path).stat()
                found.append((beside.st_mtime, path.stat().st_size + beside.st_size, path))
        return sorted(found, reverse=True)

    def clear(self) -> tuple[int, int]:
        """Delete everything: how many engines there were, and how many bytes were freed."""
        if not self.folder.is_dir():
            return 0, 0
        engines = len(list(self.folder.glob("*.engine")))
        freed = 0
        for path in [p for p in self.folder.iterdir() if p.is_file()]:
            freed += path.stat().st_size
            path.unlink()
        return engines, freed

    def read_timings(self, name: str) -> bytes:
        """Kernel timings of earlier builds; empty where there are none."""
        try:
            return (self.folder / f"{name}.timings").read_bytes()
        except OSError:
            return b""

    def write_timings(self, name: str, data: bytes) -> None:
        """Keep kernel timings; a cache that cannot be written keeps none."""
        with contextlib.suppress(OSError):
            make_folder(self.folder)
            replace_file(self.folder / f"{name}.timings", data)

    def _evict(self, *, keep: str) -> None:
        engines = self._by_use()
        total = sum(size for _, size, _ in engines)
        for _, size, path in reversed(engines):
            if total <= self.limit_bytes:
                return
            if path.stem != keep:
                self._delete(path)
                total -= size

    def _delete(self, path: Path) -> None:
        for one in (path, facts_path(path), kernels_path(path), path.with_suffix(".lock")):
            with contextlib.suppress(OSError):
                one.unlink(missing_ok=True)

    def _sweep_temporaries(self) -> None:
        """Delete what a killed process left half written."""
        old = time.time() - _STALE_TEMPORARY_SECONDS
        for path in self.folder.glob(".*.engine*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < old:
                    path.unlink()


def engine_key(
    source: EngineSource, *, options: BuildOptions, flavour: Flavour, gpu: Gpu | None
) -> str:
    """SHA-256 over everything that an engine depends on."""
    half = options.precision == "fp16"
    # fp32 and int8 only insist on what the graph is: they build nothing else than None does.
    wanted = options if half else dataclasses.replace(options, precision=None)
    facts = {
        "schema": SCHEMA,
        "onnx": source.sha256,
        "options": wanted.to_dict(),
        "flavour": flavour.name,
        "version": ".".join(map(str, flavour.version)),
        "device": device_key(flavour, gpu, checked_targets(flavour, options.targets)),
        # The fp16 conversion is this program's: its engines change with it.
        "converter": __version__ if half else "",
    }
    return sha256(json.dumps(facts, sort_keys=True).encode())


def _lock(stream: IO[str], waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(stream, fcntl.LOCK_EX)
