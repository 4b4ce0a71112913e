"""Where outputs go and inputs come from: a folder, or anything that fsspec has a file system for.

A name appears when its file is whole: by renaming in a folder, and by the upload itself in object
stores.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import IO, Any, Protocol

from segedge.errors import SegedgeError, SinkError, SourceError, UsageError
from segedge.machine.files import locked, prepare_folder, refused, write_atomically, writing
from segedge.machine.optional import require

STAGING = ".parts"
"""Folder of what is not whole yet, in a local archive."""
TOKEN = ".segedge-"
"""How the file begins that shows workers that they see the archive of their run."""


def is_remote(text: str) -> bool:
    """Whether a path is an fsspec address: ``s3://...``, but not ``file://...``."""
    return "://" in text and not text.startswith("file://")


class Store(Protocol):
    """An archive's folder. Names are relative, with forward slashes."""

    def read(self, name: str) -> bytes | None:
        """A file's bytes, or None where there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all; SinkError where that is refused."""

    def publish(self, path: Path, name: str) -> None:
        """Take a finished file from `staging` over; SinkError where that is refused."""

    def remove(self, name: str) -> None:
        """Take a file away; one that is not there, or cannot be taken away, is no error."""

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names of the files of a folder that end so, sorted; none where there is no folder."""

    def staging(self) -> Any:
        """A fresh local folder in a ``with`` statement, gone afterwards."""


def open_store(out: str) -> Store:
    """The store of a path or address."""
    if is_remote(out):
        return RemoteStore(out)
    return LocalStore(Path(out.removeprefix("file://")))


class LocalStore:
    """A folder."""

    def __init__(self, root: Path) -> None:
        """Make it where it is missing."""
        self._root = root
        self._made: set[Path] = set()
        prepare_folder(root, purpose=root)

    def __str__(self) -> str:
        return str(self._root)

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        path = self._root / name
        with refused(f"cannot read {path}", SourceError), suppress(FileNotFoundError):
            return path.read_bytes()
        return None

    def write(self, name: str, data: bytes) -> None:
        """See `Store`."""
        write_atomically(self._path(name), data)

    def publish(self, path: Path, name: str) -> None:
        """See `Store`."""
        target = self._path(name)
        with writing(target):
            path.replace(target)

    def remove(self, name: str) -> None:
        """See `Store`."""
        with suppress(OSError):
            (self._root / name).unlink()

    def names(self, folder: str, suffix: str) -> list[str]:
        """See `Store`."""
        found = (self._root / folder).glob(f"*{suffix}")
        return sorted(path.name for path in found if not path.name.startswith("."))

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """See `Store`. On the same disk: publishing is a rename."""
        folder = self._root / STAGING / uuid.uuid4().hex
        with writing(folder):
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            rmtree(folder, ignore_errors=True)

    def lock(self) -> IO[bytes]:
        """Keep other runs out until the file is closed or this process ends."""
        text = f"another run is at work in {self._root}"
        return locked(self._root, busy=SinkError(text, fix="wait for its end, or --out ANOTHER"))

    def tidy(self) -> None:
        """Take away what killed workers left. Nobody else may be at work."""
        rmtree(self._root / STAGING, ignore_errors=True)
        for path in self._root.glob(f"{TOKEN}*"):
            self.remove(path.name)

    def _path(self, name: str) -> Path:
        path = self._root / name
        if path.parent not in self._made:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        return path


class RemoteStore:
    """A folder of an fsspec file system."""

    def __init__(self, address: str) -> None:
        """Look the file system up; nothing is written yet."""
        self._fs, root = file_system(address)
        self._root = root.rstrip("/")
        self._address = address.rstrip("/")
        self._made: set[str] = set()

    def __str__(self) -> str:
        return self._address

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None
        except Exception as error:  # each file system has its own
            raise SourceError(
                f"cannot read {self._address}/{name}", facts={"found": _said(error)}
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """See `Store`."""
        try:
            self._fs.pipe_file(self._target(name), data)
        except Exception as error:
            raise self._refused(name, error) from error

    def publish(self, path: Path, name: str) -> None:
        """See `Store`."""
        try:
            self._fs.put_file(str(path), self._target(name))
        except Exception as error:
            raise self._refused(name, error) from error

    def remove(self, name: str) -> None:
        """See `Store`."""
        with suppress(Exception):
            self._fs.rm_file(f"{self._root}/{name}")

    def names(self, folder: str, suffix: str) -> list[str]:
        """See `Store`."""
        try:
            self._fs.invalidate_cache()
            found = self._fs.ls(f"{self._root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise SourceError(
                f"cannot list {self._address}/{folder}", facts={"found": _said(error)}
            ) from error
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        return sorted(name for name in names if name.endswith(suffix))

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """See `Store`."""
        with tempfile.TemporaryDirectory(prefix="segedge-batch-") as folder:
            yield Path(folder)

    def _target(self, name: str) -> str:
        target = f"{self._root}/{name}"
        parent = target.rpartition("/")[0]
        if parent not in self._made:
            self._fs.makedirs(parent, exist_ok=True)  # nothing in object stores
            self._made.add(parent)
        return target

    def _refused(self, name: str, error: Exception) -> SegedgeError:
        return SinkError(
            f"{self._address} refuses to be written",
            facts={"file": name, "found": _said(error)},
            fix="check the bucket's name and your rights to write there; finished shards are kept",
        )


def file_system(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it."""
    fsspec = require("fsspec", purpose=f"read or write {address.partition('://')[0]}://")
    try:
        found, path = fsspec.core.url_to_fs(address)
    except ImportError as error:  # "Install s3fs to access S3"
        raise UsageError(
            f"no library for {address.partition('://')[0]}:// is installed",
            facts={"found": str(error)},
        ) from error
    except Exception as error:
        raise UsageError(f"cannot use {address}", facts={"found": _said(error)}) from error
    return found, str(path)


@contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """A local file with the contents of an input; itself where it is local."""
    if not is_remote(address):
        yield Path(address)
        return
    found, path = file_system(address)
    with tempfile.TemporaryDirectory(prefix="segedge-batch-") as folder:
        local = Path(folder) / path.rstrip("/").rpartition("/")[2]
        try:
            found.get_file(path, str(local))
        except Exception as error:
            raise SourceError(f"cannot fetch {address}", facts={"found": _said(error)}) from error
        yield local


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
