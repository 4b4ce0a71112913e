"""Files that are written whole or not at all, and refusals of the disk in words."""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from segedge.errors import SinkError


def part_path(path: Path) -> Path:
    """A fresh hidden name beside ``path``, with its ending: for a file that is not whole yet."""
    return path.with_name(f".{path.stem}.part-{uuid.uuid4().hex[:8]}{path.suffix}")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that its name never stands for half of it.

    Raises:
        SinkError: It cannot be written; what was there before is untouched.
    """
    try:
        replace_file(path, data)
    except OSError as error:
        raise sink_error(path, error, facts={"needed": megabytes(len(data))}) from error


def replace_file(path: Path, data: bytes) -> None:
    """`write_atomically` for those who tell of a refusal themselves.

    Raises:
        OSError: The disk refuses it; what was there before is untouched.
    """
    part = part_path(path)
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def prepare_folder(folder: Path, *, purpose: Path) -> None:
    """Make a folder, and be sure that files can be made in it: before hours of work, not after.

    Args:
        folder: Where files will be made.
        purpose: What the error names as the thing that cannot be written.

    Raises:
        SinkError: It cannot be made or written.
    """
    probe = folder / f".segedge-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise sink_error(purpose, error) from error


def sink_error(path: Path, error: OSError, *, facts: Mapping[str, str] | None = None) -> SinkError:
    """The system's refusal to write, in words.

    Args:
        path: What was to be written.
        error: The refusal.
        facts: Further facts, after ours.
    """
    facts = facts or {}
    if error.errno == errno.ENOSPC:
        return SinkError(
            f"the disk is full: cannot write {path}",
            facts={"free": f"{free_space(path)} on the disk of {existing_folder(path)}", **facts},
            fix="free some space, or write to another disk with -o",
        )
    reason = error.strerror or str(error)
    return SinkError(
        f"cannot write {path}",
        facts={"found": reason, **facts},
        fix="choose another place with -o",
    )


def existing_folder(path: Path) -> Path:
    """The nearest folder at or above ``path`` that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def free_space(path: Path) -> str:
    """Free space where ``path`` is or would be, for people."""
    return megabytes(shutil.disk_usage(existing_folder(path)).free)


def megabytes(count: float) -> str:
    """Bytes as megabytes, for people."""
    return f"{count / 1e6:.1f} MB"


def same_file(a: Path, b: str) -> bool:
    """Whether two names stand for one existing file."""
    try:
        return a.samefile(b)
    except OSError:
        return False
