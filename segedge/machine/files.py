"""Files that are written whole or not at all, and refusals of the disk in words."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from segedge.errors import SegedgeError, SinkError


def part_path(path: Path) -> Path:
    """A fresh hidden name beside ``path``, with its ending: for a file that is not whole yet."""
    return path.with_name(f".{path.stem}.part-{os.urandom(4).hex()}{path.suffix}")


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A `part_path` to write to: renamed to ``path`` at the end, or gone where that failed.

    What is there and is no file (``/dev/stdout``, a pipe) is written to as it is.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    part = part_path(path)
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def replace_file(
    path: Path,
    data: bytes,
    *,
    durable: bool = False,
    mode: int | None = None,
    check: Callable[[Path], object] | None = None,
) -> None:
    """`write_atomically` for those who tell of the disk's refusal, an `OSError`, themselves.

    ``mode`` are the file's permissions; None: what the user's umask says.
    """
    with staged(path) as part:
        part.touch(mode=0o666 if mode is None else mode)
        part.write_bytes(data)
        if durable:  # it survives a power cut; too slow for a file a frame
            with part.open("rb") as file:
                os.fsync(file.fileno())
        if check is not None:
            check(part)


def write_atomically(
    path: Path,
    data: bytes,
    *,
    durable: bool = False,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write a file so that its name never stands for half of it.

    ``check`` looks at the whole file before it has its name, and refuses it by raising.

    Raises:
        SinkError: It cannot be written; what was there before is untouched.
    """
    with writing(path, facts={"needed": megabytes(len(data))}):
        replace_file(path, data, durable=durable, check=check)


def prepare_folder(folder: Path, *, purpose: Path) -> None:
    """Make a folder, and be sure that files can be made in it: before hours of work, not after.

    Args:
        folder: Where files will be made.
        purpose: What the error names as the thing that cannot be written.

    Raises:
        SinkError: It cannot be made or written.
    """
    probe = folder / f".segedge-{os.urandom(4).hex()}"
    with writing(purpose):
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()


def locked(folder: Path, *, busy: SinkError) -> IO[bytes]:
    """Keep other runs out of a folder until the file that is returned is closed.

    Where there are no such locks (Windows, some network file systems) two runs in one folder are
    the user's own care. ``busy`` is raised where another run has it.
    """
    path = folder / ".lock"
    with writing(path):
        file = path.open("ab")
    with suppress(ImportError, OSError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise busy from error
    return file


@contextmanager
def refused(headline: str, kind: type[SegedgeError], *, fix: str | None = None) -> Iterator[None]:
    """What the system refuses in a ``with`` statement becomes an error of this kind."""
    try:
        yield
    except OSError as error:
        raise kind(headline, facts={"found": reason_of(error)}, fix=fix) from error


def reason_of(error: OSError) -> str:
    """The system's words for it."""
    return error.strerror or str(error)


@contextmanager
def writing(path: Path, *, facts: Mapping[str, str] | None = None) -> Iterator[None]:
    """What the system refuses in a ``with`` statement becomes a `sink_error` of ``path``."""
    try:
        yield
    except OSError as error:
        raise sink_error(path, error, facts=facts) from error


def sink_error(path: Path, error: OSError, *, facts: Mapping[str, str] | None = None) -> SinkError:
    """The system's refusal to write, in words; ``facts`` come after ours."""
    facts = facts or {}
    if error.errno == errno.ENOSPC:
        folder = next(p for p in (path, *path.absolute().parents) if p.is_dir())
        free = shutil.disk_usage(folder).free
        return SinkError(
            f"the disk is full: cannot write {path}",
            facts={"free": f"{megabytes(free)} on the disk of {folder}", **facts},
            fix="free some space, or write to another disk with -o",
        )
    return SinkError(
        f"cannot write {path}",
        facts={"found": reason_of(error), **facts},
        fix="choose another place with -o",
    )


def megabytes(count: float) -> str:
    """Bytes for people: ``31.2 MB`` (10^6 bytes); small sizes in kB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def same_file(a: Path, b: str) -> bool:
    """Whether two names stand for one existing file."""
    try:
        return a.samefile(b)
    except OSError:
        return False
