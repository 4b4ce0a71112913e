"""What tests make and share: made once, for all workers of a run and for later runs.

    library = built("tail.so", lambda path: compile(source, path), key=[source, *flags, version])

It lies in ``.pytest_cache/built`` of the checkout, under a digest of all that it depends on: what
has changed has another name, and nothing is ever replaced.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".pytest_cache" / "built"


def built(name: str, make: Callable[[Path], object], *, key: Iterable[object]) -> Path:
    """The file or folder that ``make`` writes at the path that it is given; not to be changed.

    ``key`` is all that the content depends on: sources, arguments, versions of who makes it.
    """
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).hexdigest()[:24]
    return once(FOLDER / digest / name, make)


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """``path``, made by the first who asks; whoever asks meanwhile waits."""
    if not path.exists():
        part = path.parent / "part" / path.name
        part.parent.mkdir(parents=True, exist_ok=True)
        # The system takes the lock back from a process that ends, however it ends.
        with (path.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _remove(part)  # of a run that was killed
                make(part)
                part.rename(path)
    return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
