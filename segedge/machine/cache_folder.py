"""Where compiled things are kept: kernels, CUDA programs, engines. No cache ever stops a run.

One folder is chosen for all of them: ``SEGEDGE_CACHE_DIR``, else the platform's cache folder, else
a private one in the temporary folder, else none. What lies in it is code that will be run: a
folder that nobody named is taken only from this user or from root.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segedge.machine.files import reason_of, replace_file

CACHE_VARIABLE = "SEGEDGE_CACHE_DIR"
Kind = Literal["cpu", "kernels", "engines"]
"""Kernels for this CPU, CUDA programs, engines; each a folder in the chosen one."""
KINDS: tuple[Kind, ...] = ("cpu", "kernels", "engines")
_NOWHERE = Path(os.devnull) / "segedge"
"""Below it nothing is ever found and nothing can be made."""
_DIGEST_BYTES = 32
_told: dict[str, object] = {}
"""What was said, each with the call that said it."""
_log = logging.getLogger("segedge")


@dataclass(frozen=True)
class CacheFolder:
    """The folder of this process, and why it is this one."""

    path: Path
    origin: str
    """What named it, in words; ``none`` where there is none."""
    problem: str | None = None
    """Why it cannot be written."""
    passed_over: tuple[str, ...] = ()
    """What would have come before it, each with the reason that it is not used."""

    @property
    def exists_nowhere(self) -> bool:
        """Whether there is no folder at all: everything is compiled anew in every process."""
        return self.path == _NOWHERE

    @property
    def text(self) -> str:
        """The folder and its state in one line."""
        state = f", read only: {self.problem}" if self.problem else ""
        place = "none: what is compiled is not kept" if self.exists_nowhere else str(self.path)
        return f"{place} ({self.origin}{state})" if not self.exists_nowhere else place


def cache_folder() -> CacheFolder:
    """The folder that the environment names now; nothing but the private one is made."""
    refused: list[str] = []
    for origin, path, problem in _candidates():
        # Somebody named the first one: it may be baked into an image and be complete.
        named = origin == CACHE_VARIABLE
        if problem is None or (named and os.access(path, os.R_OK | os.X_OK)):
            return CacheFolder(path, origin, problem, tuple(refused))
        refused.append(f"{path} ({origin}): {problem}")
        if named:
            tell_once(f"{CACHE_VARIABLE} is not used: {path}: {problem}")
    return CacheFolder(_NOWHERE, "none", "no folder can be written", tuple(refused))


def cache_path(kind: Kind) -> Path:
    """The folder of one kind; it need not exist, and perhaps cannot."""
    return cache_folder().path / kind


def make_folder(folder: Path) -> None:
    """Make a folder of the cache; where all may write the one that was named, they may here."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    with suppress(OSError):  # another user made it in this moment
        shared = stat.S_IMODE(folder.parent.stat().st_mode) & 0o1022
        if shared & 0o022:
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | shared)


def read_kept(path: Path) -> bytes | None:
    """What `keep` wrote, or None where there is none or it is damaged."""
    try:
        entry = path.read_bytes()
    except OSError:
        return None
    digest, data = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == digest else None


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache behind its digest; a refusal costs only time, and is told once."""
    try:
        make_folder(path.parent)
        replace_file(path, hashlib.sha256(data).digest() + data)
    except OSError as error:
        folder = cache_folder()
        place = "no folder can be written" if folder.exists_nowhere else f"{folder.path}"
        reason = "" if folder.exists_nowhere else f": {error.strerror or error}"
        tell_once(
            f"what is compiled cannot be kept ({place}{reason}): each start takes seconds longer; "
            f"{CACHE_VARIABLE} names another folder"
        )


def tell_once(text: str, level: int = logging.WARNING) -> None:
    """A line of the log that a process says once, whichever of its threads has it first."""
    mine = object()
    if _told.setdefault(text, mine) is mine:
        _log.log(level, text)


def _candidates() -> Iterator[tuple[str, Path, str | None]]:
    """Origin, folder and what is wrong with it, the preferred one first."""
    if named := os.environ.get(CACHE_VARIABLE):
        path = Path(named).expanduser().absolute()
        yield CACHE_VARIABLE, path, _unwritable(path)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():
        path = Path(base) / "segedge"
        yield "XDG_CACHE_HOME", path, _foreign(path) or _unwritable(path)
    else:
        with suppress(RuntimeError):  # no HOME, and a user whom no passwd file knows
            path = Path.home() / ".cache" / "segedge"
            yield "~/.cache", path, _foreign(path) or _unwritable(path)
    for base in (os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp"):
        if Path(base).is_absolute():
            path = Path(base) / f"segedge-{os.geteuid()}"
            yield "temporary folder", path, _private(path)


def _unwritable(path: Path) -> str | None:
    """Why a folder cannot be made or written, without trying."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        return f"{there} is no folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} cannot be written"
    return None


def _foreign(path: Path) -> str | None:
    """Why what lies in a folder that nobody named is not trusted."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    owner = there.stat().st_uid
    return None if owner in (0, os.geteuid()) else f"{there} belongs to user {owner}"


def _private(path: Path) -> str | None:
    """Make a folder that only this user can look into, or say why what is there is not one."""
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()  # a link that somebody laid there is not followed
    except OSError as error:
        return reason_of(error)
    if not stat.S_ISDIR(found.st_mode):
        return "it is no folder"
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}"
    if found.st_mode & 0o077:
        return "other users may look into it"
    return _unwritable(path)
