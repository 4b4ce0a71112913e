"""Small JSON values that are kept for this user, and believed only where nobody else wrote them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from segedge.machine.cache_folder import CACHE_VARIABLE, cache_folder, tell_once
from segedge.machine.files import reason_of, replace_file

_MOST_BYTES = 100_000
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Kept:
    """A folder with one file a key.

    An entry is this user's own, nobody else may write it or the folder, and it says itself which
    key it is of: what does not, is not believed. A folder that cannot be written keeps nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made when the first value is kept."""
        self.folder = folder

    @classmethod
    def default(cls, name: str) -> Kept:
        """A folder of this name in the user's cache."""
        return cls(cache_folder().path / name)

    def get(self, key: str) -> Any:
        """The value of a key; None where there is none that can be believed."""
        try:
            if not _is_own(self.folder.stat()):
                return None
            handle = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as file:
                facts = os.fstat(handle)
                if not (_is_own(facts) and stat.S_ISREG(facts.st_mode)):
                    return None
                entry = json.loads(file.read(_MOST_BYTES))
        except (OSError, ValueError, RecursionError):  # the last: brackets within brackets
            return None
        return entry.get("value") if isinstance(entry, dict) and entry.get("key") == key else None

    def put(self, key: str, value: Any) -> bool:
        """Keep a value, if the folder lets that be; what it refuses is told once."""
        data = json.dumps({"key": key, "value": value}, separators=(",", ":")).encode()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _is_own(self.folder.stat()):
                _tell_once(f"{self.folder} can be written by others: nothing is kept there")
                return False
            path = self._path(key)
            if path.is_fifo():
                path.unlink()  # `replace_file` writes to pipes, and this one has no reader
            replace_file(path, data, mode=0o600)
        except OSError as error:
            reason = reason_of(error)
            _tell_once(f"{self.folder} cannot be written ({reason}): checked again each time")
            return False
        return True

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever kept."""
        return not self.folder.exists()

    def clear(self) -> None:
        """Forget everything."""
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _is_own(facts: os.stat_result) -> bool:
    return facts.st_uid == os.geteuid() and not facts.st_mode & _OTHERS_MAY_WRITE


def _tell_once(text: str) -> None:
    tell_once(f"{text}; {CACHE_VARIABLE} names another folder")
